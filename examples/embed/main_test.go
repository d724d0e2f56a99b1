package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

func TestDemonstration(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var out bytes.Buffer
	if err := run(ctx, &out, ""); err != nil {
		t.Fatalf("%v after\n%s", err, out.String())
	}
	for _, want := range []string{
		"401  the gate asks for a token (Bearer)", "200  the cache, from upstream", "200  our registry", "403  the gate refuses",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestWithoutATokenTheUpstreamIsNotAsked(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1<<10))
	c, err := newRegistry(up, gate{token: "right", realm: "https://auth.example.com/token"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := c.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	for _, path := range []string{"/v2/", "/v2/mirror/app/manifests/v1", "/v2/own/hello/manifests/latest", "/v2/else/where/manifests/v1"} {
		for _, authorization := range []string{"", "Bearer wrong", "Basic right", "right"} {
			r := httptest.NewRequestWithContext(t.Context(), "GET", path, nil)
			r.Header.Set("Authorization", authorization)
			w := httptest.NewRecorder()
			c.ServeHTTP(w, r)
			if w.Code != http.StatusUnauthorized || !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), `Bearer realm="https://auth.example.com/token",service="own"`) {
				t.Errorf("%s with %q: %d %v", path, authorization, w.Code, w.Header())
			}
		}
	}
	if n := up.Count("", "", ""); n != 0 {
		t.Errorf("the upstream was asked %d times", n)
	}
}
