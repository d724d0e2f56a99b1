package webhook_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/webhook"
	"github.com/pullthrough/pullthrough/webhook/webhooktest"
)

// The environment of an Outbox in a process of its own: this test binary again.
const (
	childFolder = "WEBHOOK_TEST_CHILD_FOLDER"
	childHook   = "WEBHOOK_TEST_CHILD_HOOK"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childFolder); dir != "" {
		if err := child(dir, os.Getenv(childHook)); err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child sends events, says which were taken over, and waits to be killed.
func child(folder, hook string) error {
	dir, err := store.OpenDir(folder)
	if err != nil {
		return err
	}
	box := &webhook.Outbox{Records: dir, Receivers: []webhook.Receiver{{Name: "hook", Sink: &webhook.HTTP{URL: hook}}}}
	for range 200 { // a disk without syncs would take them without end
		ev := pushed
		ev.ID, ev.Timestamp = webhook.NewID(), time.Now().UTC()
		if err := box.Send(context.Background(), ev); err != nil {
			return err
		}
		fmt.Println("taken", ev.ID)
	}
	_, err = io.Copy(io.Discard, os.Stdin) // which ends with the parent
	return err
}

func TestKilledBetweenTakingAndDelivering(t *testing.T) {
	folder := t.TempDir()
	hook := webhooktest.New(t)
	taken := map[string]bool{}
	for i, fault := range []webhooktest.Fault{{Hang: true}, {}, {Lose: true}, {Status: 503}} {
		hook.Heal()
		hook.Fail(fault)
		for id := range killed(t, folder, hook, 30, min(i, 1)) {
			taken[id] = true
		}
	}
	if n := len(hook.IDs()); n >= len(taken) || n == 0 {
		t.Errorf("of %d events %d were delivered before the last restart: nothing is tested", len(taken), n)
	}
	hook.Heal()
	dir := openDir(t, folder)
	box := &webhook.Outbox{Records: dir, Receivers: []webhook.Receiver{{Name: "hook", Sink: &webhook.HTTP{URL: hook.URL()}}}}
	if err := box.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		got := hook.IDs()
		lost := 0
		for id := range taken {
			if got[id] == 0 {
				lost++
			}
		}
		if lost == 0 {
			break
		}
		if err := hook.Wait(ctx, len(got)+1); err != nil {
			t.Fatalf("%d events are lost: %v", lost, err)
		}
	}
	if err := box.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// killed runs the child until it said n times that it took an event and so many
// were delivered in all, kills it, and returns what it said.
func killed(t *testing.T, folder string, hook *webhooktest.Recorder, n, delivered int) map[string]bool {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childFolder+"="+folder, childHook+"="+hook.URL())
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		id, ok := strings.CutPrefix(lines.Text(), "taken ")
		if !ok {
			t.Errorf("the child says %q", lines.Text())
		}
		if ids[id] = true; len(ids) == n {
			if err := hook.Wait(t.Context(), delivered); err != nil {
				t.Error(err)
			}
			_ = cmd.Process.Kill() // SIGKILL; what it still says counts too
		}
	}
	_ = cmd.Wait()
	if len(ids) < n {
		t.Fatalf("the child ended after %d events", len(ids))
	}
	return ids
}
