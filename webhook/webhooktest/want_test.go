package webhooktest_test

import (
	"errors"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/pullthrough/pullthrough/webhook"
	"github.com/pullthrough/pullthrough/webhook/webhooktest"
)

func TestWantEvents(t *testing.T) {
	hook := webhooktest.NewHandler() // without a testing.TB the complaint is kept
	defer hook.Close()
	sink := &webhook.HTTP{URL: "http://hook.example/", Transport: hook.Transport()}
	for _, ev := range []webhook.Event{push("1"), push("1"), webhook.Ping()} {
		if err := sink.Send(t.Context(), ev); err != nil {
			t.Fatal(err)
		}
	}
	if !hook.WantEvents("ping", "push team/api:v1") || len(hook.Complaints()) != 0 {
		t.Errorf("%q", hook.Complaints())
	}
	if hook.WantEvents("ping", "delete team/api@sha256:0a") {
		t.Error("other events are no complaint")
	}
	text := strings.Join(hook.Complaints(), "; ")
	if !strings.Contains(text, "the events are not") || !strings.HasSuffix(text, "\n\t+ push team/api:v1\n\t  ping\n\t- delete team/api@sha256:0a") {
		t.Errorf("%q", text)
	}
}

func TestAStoppedReceiverRefusesItsTransport(t *testing.T) {
	hook := webhooktest.NewHandler()
	client := &http.Client{Transport: hook.Transport()}
	hook.Stop()
	if _, err := client.Post("http://hook.example/", "application/json", strings.NewReader(good)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v", err)
	}
	if err := hook.Restart(); err != nil || hook.URL() != "" {
		t.Errorf("%v, %q", err, hook.URL())
	}
	resp, err := client.Post("http://hook.example/", "application/json", strings.NewReader(good))
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%v, %v", resp, err)
	}
}
