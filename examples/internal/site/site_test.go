package site_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/internal/puller"
	"github.com/pullthrough/pullthrough/examples/internal/site"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook"
	"github.com/pullthrough/pullthrough/webhook/webhooktest"
)

// TestSite: a site serves a cache, counts what it was asked, delivers events, and leaves
// nothing behind.
func TestSite(t *testing.T) {
	up, hook := upstreamtest.NewRegistry(t), webhooktest.New(t)
	img := up.AddMultiPlatform("team/app", "v1", upstreamtest.Layers(2, 200<<10), "amd64").Children[0]
	s, err := site.Open("here", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s.Outbox = &webhook.Outbox{Records: s.Dir, Receivers: []webhook.Receiver{{Name: "hook", Sink: &webhook.HTTP{URL: hook.URL()}}}}
	rules, err := rule.NewSet(rule.Rule{Name: "team", Source: up.Host() + "/team/*", Target: "team/*"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(&cache.Cache{Rules: rules}, up.Host()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 2 {
		if _, err := s.Client.Pull(ctx, "team/app", "v1", "amd64", nil); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.Settle(ctx), hook.Wait(ctx, 3)); err != nil {
			t.Fatal(err)
		}
	}
	_, err = s.Client.Pull(ctx, "team/app", "v2", "amd64", nil)
	if r, ok := errors.AsType[*puller.Refusal](err); !ok || r.Status != 404 {
		t.Errorf("a tag that does not exist: %v", err)
	}
	if err := s.Settle(ctx); err != nil {
		t.Fatal(err)
	}
	want := site.Asked{Manifests: 4, Blobs: 6, Refused: 1, Bytes: 2 * (400<<10 + img.Config.Size)}
	if got := s.Asked(); got != want {
		t.Errorf("asked %+v, want %+v", got, want)
	}
	if s.Reset(); s.Asked() != (site.Asked{}) {
		t.Error("Reset leaves figures")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", s.Address); err == nil {
		c.Close()
		t.Error("the server still listens")
	}
}

// TestSettleEnds: Settle gives up with its context.
func TestSettleEnds(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	up.AddMultiPlatform("team/app", "v1", upstreamtest.Layers(2, 1000), "amd64")
	s, err := site.Open("here", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	rules, err := rule.NewSet(rule.Rule{Name: "team", Source: up.Host() + "/team/*", Target: "team/*"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(&cache.Cache{Rules: rules}, up.Host()); err != nil {
		t.Fatal(err)
	}
	up.Fail(upstreamtest.Fault{Hang: true})
	pulled := make(chan struct{})
	go func() {
		defer close(pulled)
		_, _ = s.Client.Pull(t.Context(), "team/app", "v1", "amd64", nil)
	}()
	for up.Open() == 0 {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := s.Settle(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a request is under way: %v", err)
	}
	up.Heal()
	up.Release()
	<-pulled
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestOpenFails: a folder that exists is an error, and a site that never served can be closed.
func TestOpenFails(t *testing.T) {
	parent := t.TempDir()
	s, err := site.Open("here", parent)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := site.Open("here", parent); err == nil {
		t.Error("two sites have one folder")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
