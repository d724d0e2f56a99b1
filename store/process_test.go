package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullthrough/pullthrough/store"
)

// helperDir names the store for a second process: this test binary again.
const helperDir = "STORE_TEST_HELPER_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(helperDir); dir != "" {
		helper(dir)
		return
	}
	if dir := os.Getenv(store.DamageDir); dir != "" {
		store.DamageChild(dir)
		return
	}
	os.Exit(m.Run())
}

// helper writes to a store until it is killed, and says on its output what is
// finished.
func helper(dir string) {
	d, err := store.OpenDir(dir)
	if err != nil {
		fmt.Println("open:", errors.Is(err, store.ErrInUse), err)
		return
	}
	ctx := context.Background()
	fail := func(err error) {
		if err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
	}
	for i := uint64(0); ; i++ {
		for j, n := range []int{2000, 200 << 10} {
			info, data := payload(10*i+uint64(j), n)
			s, err := d.Spool(ctx, "a", info)
			fail(err)
			_, err = s.WriteAt(data[:n/2], 0)
			fail(err)
			fail(s.(store.Checkpointer).Checkpoint(store.Progress{Front: int64(n / 2), Size: info.Size}))
			_, err = s.WriteAt(data[n/2:], int64(n/2))
			fail(err)
			fail(s.Commit(ctx, info))
			fail(s.Close())
			fmt.Println("blob", 10*i+uint64(j), n)
		}
		info, data := payload(10*i+5, 500)
		info.MediaType = ocispec.MediaTypeImageManifest
		w, err := d.Create(ctx, "a", info)
		fail(err)
		_, err = w.Write(data)
		fail(err)
		fail(w.Commit(ctx))
		fmt.Println("blob", 10*i+5, 500)
		fail(d.PutRecord(ctx, "jobs", fmt.Sprint(i%5), []byte(fmt.Sprint(i))))
		fmt.Println("record", i%5, i)
	}
}

func startHelper(t *testing.T, dir string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), helperDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd, bufio.NewScanner(out)
}

func TestOneProcessPerFolder(t *testing.T) {
	dir := t.TempDir()
	openDir(t, dir)
	if _, err := store.OpenDir(dir); !errors.Is(err, store.ErrInUse) || !strings.Contains(err.Error(), dir) {
		t.Errorf("the same process: %v", err)
	}
	_, out := startHelper(t, dir)
	if !out.Scan() || !strings.HasPrefix(out.Text(), "open: true ") || !strings.Contains(out.Text(), dir) {
		t.Errorf("another process says %q", out.Text())
	}
}

func TestKill(t *testing.T) {
	dir := t.TempDir()
	for round := range 4 {
		cmd, out := startHelper(t, dir)
		blobs, records := map[uint64]int{}, map[string]int{}
		for n := 0; n < 20+7*round && out.Scan(); n++ {
			f := strings.Fields(out.Text())
			if len(f) != 3 {
				t.Fatalf("the writer says %q", out.Text())
			}
			value, _ := strconv.Atoi(f[2])
			if f[0] == "record" {
				records[f[1]] = value
			} else {
				i, _ := strconv.ParseUint(f[1], 10, 64)
				blobs[i] = value
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for out.Scan() { // what it finished before it noticed
		}
		_ = cmd.Wait()
		d, err := store.OpenDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for i, n := range blobs {
			info, want := payload(i, n)
			_, r, err := d.Open(t.Context(), "a", info.Digest)
			if err != nil {
				t.Fatalf("blob %d, which was finished: %v", i, err)
			}
			if got, err := io.ReadAll(r); err != nil || string(got) != string(want) {
				t.Errorf("blob %d: %d bytes, %v", i, len(got), err)
			}
			r.Close()
		}
		for key, err := range d.RecordKeys(t.Context(), "jobs") {
			if err != nil {
				t.Fatal(err)
			}
			data, err := d.Record(t.Context(), "jobs", key)
			if got, _ := strconv.Atoi(string(data)); err != nil || got < records[key] {
				t.Errorf("record %s: %s, %v; %d was finished", key, data, err, records[key])
			}
			delete(records, key)
		}
		if len(records) > 0 {
			t.Errorf("records are missing: %v", records)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
