package upstreamtest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

func TestWantRequests(t *testing.T) {
	up := upstreamtest.NewHandler() // without a testing.TB the complaint is kept
	up.AddImage("team/app", "v1", nil)
	client := &http.Client{Transport: up.Transport()}
	for _, path := range []string{"manifests/v1", "manifests/v2", "manifests/v1?again"} {
		resp, err := client.Get("http://any.example/v2/team/app/" + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	const v1, v2 = "GET /v2/team/app/manifests/v1", "GET /v2/team/app/manifests/v2"
	if !up.WantRequests(v1, v1, v2) || len(up.Complaints()) != 0 {
		t.Errorf("%q", up.Complaints())
	}
	if up.WantRequests(v2, "HEAD /v2/", v1) || len(up.Complaints()) != 1 {
		t.Fatalf("%q", up.Complaints())
	}
	want := "upstreamtest: the requests are not what is wanted (+ unwanted, - missing):" +
		"\n\t  " + v1 + "\n\t  " + v2 + "\n\t+ " + v1 + "\n\t- HEAD /v2/"
	if got := up.Complaints()[0]; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	up.Reset()
	if !up.WantRequests() {
		t.Errorf("%q", up.Complaints())
	}
}

func TestTransportInFakeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := upstreamtest.NewHandler()
		img := up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1000))
		repo, err := (&upstream.Client{Transport: up.Transport()}).Open(upstream.Source{Host: "registry.example", Repository: "team/app"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		resolve := func() error { _, err := repo.Resolve(t.Context(), "v1"); return err }
		if err := resolve(); err != nil {
			t.Error(err)
		}
		up.Stop()
		if err := resolve(); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("it is stopped: %v", err)
		}
		if err := up.Restart(); err != nil || up.Host() != "" {
			t.Errorf("%v, %q", err, up.Host())
		}

		up.Fail(upstreamtest.Fault{Kind: "manifest", Hang: true, Times: 1})
		up.Fail(upstreamtest.Fault{Kind: "blob", Stall: 300, Times: 1})
		for what, ask := range map[string]func() error{"hang": resolve, "stall": func() error {
			b, err := repo.Blob(t.Context(), img.Layers[0].Digest, 0, -1)
			if err != nil {
				return err
			}
			defer b.Close()
			data, err := io.ReadAll(b)
			if string(data) != string(up.Blob("team/app", img.Layers[0].Digest)) {
				t.Errorf("%d bytes", len(data))
			}
			return err
		}} {
			start, done := time.Now(), make(chan error, 1)
			go func() { done <- ask() }()
			time.Sleep(time.Second)
			up.Release()
			if err := <-done; err != nil || time.Since(start) != time.Second {
				t.Errorf("%s: %v after %v", what, err, time.Since(start))
			}
		}

		up.Fail(upstreamtest.Fault{Kind: "blob", Cut: 300})
		b, err := repo.Blob(t.Context(), img.Layers[0].Digest, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		if data, err := io.ReadAll(b); err == nil || len(data) != 300 {
			t.Errorf("a cut: %d bytes, %v", len(data), err)
		}
		_ = b.Close()

		up.Heal()
		up.Fail(upstreamtest.Fault{Hang: true})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := repo.Resolve(ctx, "v1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a client that leaves: %v", err)
		}
		if text := strings.Join(up.Complaints(), "; "); text != "" {
			t.Error(text)
		}
	})
}
