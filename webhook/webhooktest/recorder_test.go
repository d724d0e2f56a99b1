package webhooktest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/webhook"
	"github.com/pullthrough/pullthrough/webhook/webhooktest"
)

func Example() {
	hook, err := webhooktest.Start() // webhooktest.New(t) in a test
	if err != nil {
		fmt.Println(err)
		return
	}
	defer hook.Close()
	hook.Fail(webhooktest.Fault{Status: 503, Times: 1})

	outbox := &webhook.Outbox{FirstPause: time.Millisecond, Receivers: []webhook.Receiver{
		{Name: "scanner", Sink: &webhook.HTTP{URL: hook.URL()}},
	}}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	defer outbox.Shutdown(ctx)
	err = outbox.Send(ctx, webhook.Event{ID: "1", Timestamp: time.Now(), Action: webhook.ActionPush, Target: webhook.Target{
		MediaType: "application/vnd.oci.image.manifest.v1+json", Digest: "sha256:0a", Size: 5, Length: 5, Repository: "team/api", Tag: "v1"}})
	fmt.Println(err, hook.Wait(ctx, 1))
	for _, ev := range hook.Events() {
		fmt.Println(ev.Action, ev.Subject())
	}
	fmt.Println(len(hook.Deliveries()), hook.Complaints())
	// Output:
	// <nil> <nil>
	// push team/api:v1
	// 2 []
}

func push(id string) webhook.Event {
	return webhook.Event{ID: id, Timestamp: time.Unix(1700000000, 5).UTC(), Action: webhook.ActionPush, Target: webhook.Target{
		MediaType: "application/vnd.oci.image.manifest.v1+json", Digest: "sha256:0a", Size: 5, Length: 5, Repository: "team/api", Tag: "v1"}}
}

const secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="

func TestTakesWhatHTTPSends(t *testing.T) {
	hook := webhooktest.New(t)
	hook.RequireSignature(secret)
	deleted := push("2")
	deleted.Action, deleted.Target = webhook.ActionDelete, webhook.Target{MediaType: "m", Digest: "sha256:0a", Repository: "a"}
	asked := push("3")
	asked.Request = &webhook.Request{ID: "r", Host: "h", Method: "PUT", UserAgent: "u"}
	asked.Target.Tag = ""
	odd := push("4 ü%\"")
	events := []webhook.Event{push("1"), deleted, asked, odd, webhook.Ping()}
	for i, encoding := range []webhook.Encoding{webhook.ACR, webhook.CloudEventsStructured, webhook.CloudEventsBinary} {
		sink := &webhook.HTTP{URL: hook.URL() + "?a=b", Encoding: encoding, Secrets: []string{secret}}
		for _, ev := range events {
			if err := sink.Send(t.Context(), ev); err != nil {
				t.Errorf("%s: %v", ev.ID, err)
			}
		}
		got := hook.Deliveries()[i*len(events):]
		if len(got) != len(events) {
			t.Fatalf("%d deliveries, want %d", len(got), len(events))
		}
		for j, d := range got {
			if d.Encoding != encoding || d.Event.ID != events[j].ID || d.Path != "/hook?a=b" || d.Status != 200 || !d.Taken {
				t.Errorf("encoding %d: %+v", encoding, d)
			}
		}
	}
	if n := hook.IDs(); len(n) != len(events) || n["1"] != 3 {
		t.Errorf("taken %v", n)
	}
	if got := hook.Events(); len(got) != len(events) || got[2].Request == nil || *got[2].Request != *asked.Request {
		t.Errorf("events %+v", got)
	}
}

func TestExpectContentType(t *testing.T) {
	hook := webhooktest.New(t)
	hook.ExpectContentType("application/vnd.test+json")
	sink := &webhook.HTTP{URL: hook.URL(), Header: http.Header{"content-type": {"application/vnd.test+json"}}}
	if err := sink.Send(t.Context(), push("1")); err != nil {
		t.Error(err)
	}
}

func status(err error) int {
	if s, ok := errors.AsType[*webhook.StatusError](err); ok {
		return s.StatusCode
	}
	return 0
}

func TestFaults(t *testing.T) {
	hook := webhooktest.New(t)
	sink := &webhook.HTTP{URL: hook.URL()}
	send := func(id string) error { return sink.Send(t.Context(), push(id)) }

	hook.Fail(webhooktest.Fault{ID: "1", Status: 429, RetryAfter: "7", Times: 2})
	for range 2 {
		if err := send("2"); err != nil {
			t.Errorf("a fault of another event: %v", err)
		}
		err := send("1")
		if s, ok := errors.AsType[*webhook.StatusError](err); !ok || s.StatusCode != 429 || s.RetryAfter != 7*time.Second {
			t.Errorf("a status: %v", err)
		}
	}
	if err := errors.Join(send("1"), send("2")); err != nil {
		t.Errorf("after that: %v", err)
	}

	hook.Fail(webhooktest.Fault{Break: true, Times: 1})
	if err := send("3"); err == nil || hook.IDs()["3"] != 0 {
		t.Errorf("a break: %v", err)
	}
	hook.Fail(webhooktest.Fault{Lose: true, Times: 1})
	if err := send("3"); err == nil || hook.IDs()["3"] != 1 {
		t.Errorf("a lost answer: %v", err)
	}
	hook.Fail(webhooktest.Fault{Redirect: "/other", Times: 1})
	if err := send("4"); err != nil || hook.Deliveries()[len(hook.Deliveries())-1].Path != "/other" {
		t.Errorf("a redirect: %v", err)
	}
	hook.Fail(webhooktest.Fault{Action: webhook.ActionPing, Do: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(418) }})
	if err := sink.Send(t.Context(), webhook.Ping()); status(err) != 418 {
		t.Errorf("do: %v", err)
	}
	if err := send("5"); err != nil {
		t.Errorf("a fault of pings: %v", err)
	}

	hook.Stop()
	if err := send("6"); err == nil {
		t.Error("a receiver that is down answered")
	}
	if err := hook.Restart(); err != nil {
		t.Fatal(err)
	}
	if err := send("6"); err != nil {
		t.Errorf("after a restart: %v", err)
	}
}

func TestHang(t *testing.T) {
	hook := webhooktest.New(t)
	hook.Fail(webhooktest.Fault{Hang: true})
	sink := &webhook.HTTP{URL: hook.URL()}
	sent := make(chan error, 2)
	for _, end := range []func(){hook.Release, hook.Heal, hook.Stop} {
		go func() { sent <- sink.Send(t.Context(), push("1")) }()
		if err := hook.WaitDeliveries(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-sent:
			t.Fatalf("it did not hang: %v", err)
		default:
		}
		end()
		if err := <-sent; err != nil {
			t.Log(err)
		}
		hook.Reset()
		hook.Fail(webhooktest.Fault{Hang: true})
	}
	if err := hook.Restart(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { sent <- sink.Send(ctx, push("1")) }()
	if err := hook.WaitDeliveries(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-sent; !errors.Is(err, context.Canceled) || len(hook.Events()) != 0 {
		t.Errorf("a sender that left: %v", err)
	}
}

func TestWaitSaysWhatIsMissing(t *testing.T) {
	hook := webhooktest.New(t)
	for range 2 { // one event, twice
		if err := (&webhook.HTTP{URL: hook.URL()}).Send(t.Context(), push("1")); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := hook.Wait(ctx, 2); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "1 of 2 events") {
		t.Errorf("%v", err)
	}
	if err := hook.WaitDeliveries(ctx, 2); err != nil {
		t.Error(err)
	}
}

func TestTransportInFakeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hook := webhooktest.NewHandler()
		defer hook.Close()
		sink := &webhook.HTTP{URL: "https://scanner.example.com/hook", Transport: hook.Transport()}
		hook.Fail(webhooktest.Fault{Hang: true, Times: 1})
		start := time.Now()
		if err := sink.Send(t.Context(), push("1")); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 30*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		hook.Fail(webhooktest.Fault{Break: true, Times: 1})
		if err := sink.Send(t.Context(), push("1")); err == nil || hook.IDs()["1"] != 0 {
			t.Errorf("a break: %v", err)
		}
		if err := sink.Send(t.Context(), push("1")); err != nil || hook.IDs()["1"] != 1 {
			t.Error(err)
		}
		busy := webhooktest.NewHandler()
		busy.Fail(webhooktest.Fault{Do: func(http.ResponseWriter, *http.Request) { time.Sleep(5 * time.Second) }})
		go func() {
			_ = (&webhook.HTTP{URL: "http://h/", Transport: busy.Transport()}).Send(t.Context(), push("1"))
		}()
		synctest.Wait()
		busy.Close()
		if time.Since(start) != 35*time.Second {
			t.Errorf("Close did not wait for what is being answered: %v", time.Since(start))
		}
		hook.Fail(webhooktest.Fault{Hang: true})
		sent := make(chan error)
		go func() { sent <- sink.Send(t.Context(), push("1")) }()
		synctest.Wait()
		hook.Close()
		if err := <-sent; err == nil || time.Since(start) != 35*time.Second {
			t.Errorf("a receiver that was closed: %v after %v", err, time.Since(start))
		}
		hook.Heal()
		if err := sink.Send(t.Context(), push("1")); err == nil {
			t.Error("a receiver that is closed answers")
		}
		if hook.URL() != "" || len(hook.Complaints()) != 0 {
			t.Errorf("%q %v", hook.URL(), hook.Complaints())
		}
	})
}
