package cache_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook"
)

var errNoAnswer = errors.New("the connection ended before the answer")

// unsure is a store of which one change fails, as far as its caller hears.
type unsure struct {
	store.Store
	// fails is "move": a tag does not move; "moved": it moves; "lost": it moves and cannot be
	// read then; "unread": it cannot be read; "record": the record of a job stays.
	fails string
	// killed says that the process ends with the failure: no job is written down after it.
	killed, frozen bool
}

func (s *unsure) Unwrap() store.Store { return s.Store }

func (s *unsure) failure(what string) error {
	if s.fails != what {
		return nil
	}
	s.fails, s.frozen = "", s.killed
	return errNoAnswer
}

func (s *unsure) MoveTag(ctx context.Context, repo, tag string, t store.Tag) (former store.Tag, err error) {
	if err := s.failure("move"); err != nil {
		return former, err
	}
	former, _ = s.Store.Tag(ctx, repo, tag)
	if err := s.Store.SetTag(ctx, repo, tag, t); err != nil {
		return former, err
	}
	if s.fails == "lost" {
		s.fails, s.frozen = "unread", s.killed
		return former, errNoAnswer
	}
	return former, s.failure("moved")
}

func (s *unsure) Tag(ctx context.Context, repo, tag string) (store.Tag, error) {
	if err := s.failure("unread"); err != nil {
		return store.Tag{}, err
	}
	return s.Store.Tag(ctx, repo, tag)
}

func (s *unsure) SetTag(ctx context.Context, repo, tag string, t store.Tag) error {
	_, err := s.MoveTag(ctx, repo, tag, t)
	return err
}

func (s *unsure) records() store.Records { return s.Store.(*store.Mem) }

func (s *unsure) PutRecord(ctx context.Context, kind, key string, data []byte) error {
	if s.frozen && kind == "jobs" {
		return errNoAnswer
	}
	return s.records().PutRecord(ctx, kind, key, data)
}

func (s *unsure) Record(ctx context.Context, kind, key string) ([]byte, error) {
	return s.records().Record(ctx, kind, key)
}

func (s *unsure) RecordKeys(ctx context.Context, kind string) iter.Seq2[string, error] {
	return s.records().RecordKeys(ctx, kind)
}

func (s *unsure) DeleteRecord(ctx context.Context, kind, key string) error {
	if kind == "jobs" {
		if err := s.failure("record"); err != nil || s.frozen {
			return errNoAnswer
		}
	}
	return s.records().DeleteRecord(ctx, kind, key)
}

// The event of a tag is sent once if the tag has moved although nobody heard of it, or if
// what comes after it fails: also when the tag is seen again before the next try, has moved
// on by then, or the process ends in between.
func TestEventOfAChangeWithoutAnAnswer(t *testing.T) {
	for _, fails := range []string{"move", "moved", "lost", "record"} {
		for _, then := range []string{"", "is seen again", "has moved on", "restart", "killed"} {
			for _, sink := range []string{"sink", "outbox"} {
				if fails == "record" && sink == "sink" {
					continue // its events are sent before that
				}
				t.Run(fmt.Sprintf("%s, %s, %s", fails, then, sink), func(t *testing.T) {
					inBubble(t, func(c *clock) { eventWithoutAnAnswer(c, fails, then, sink == "outbox") })
				})
			}
		}
	}
}

func eventWithoutAnAnswer(c *clock, fails, then string, outbox bool) {
	c.Helper()
	s := &unsure{Store: c.store, fails: fails, killed: then == "killed"}
	var out *webhook.Outbox
	start := func() {
		c.start(func(c *clock) {
			c.cache.Store, c.cache.Freshness = s, time.Millisecond
			if outbox {
				out = &webhook.Outbox{Records: s, Receivers: []webhook.Receiver{{Name: "test", Sink: c.cache.Events}}}
				c.cache.Events = out
				if err := out.Start(c.Context()); err != nil {
					c.Error(err)
				}
				c.pass(0) // what a former process has left is sent before the copy goes on
			}
		})
	}
	stop := func() {
		c.stop()
		if out != nil {
			if err := out.Shutdown(context.Background()); err != nil {
				c.Error(err)
			}
		}
	}
	c.stop()
	start()
	img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	c.manifest("v1")
	c.pass(0)
	if s.fails != "" {
		c.Fatal("nothing has failed")
	}
	moved := true
	switch then {
	case "restart", "killed":
		stop()
		s.frozen = false
		start()
	case "is seen again":
		c.pass(10 * time.Millisecond) // the next try comes later
		c.manifest("v1")
	case "has moved on":
		c.pass(10 * time.Millisecond)
		other := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 2000))
		c.manifest("v1")
		c.pass(0)
		if now, err := s.Tag(c.Context(), "app/api", "v1"); err != nil || now.Digest != other.Digest {
			c.Fatal(now.Digest, err)
		}
		moved = fails != "move"
	}
	c.pass(time.Hour)
	events, own, ids := 0, 0, map[string]string{}
	for _, ev := range c.events {
		what := ev.Target.Digest + " " + ev.Target.Tag
		if was, ok := ids[what]; ok && was != ev.ID {
			c.Errorf("two IDs of %s", what)
		}
		switch ids[what] = ev.ID; what {
		case img.Digest.String() + " v1":
			events++
		case img.Digest.String() + " ":
			own++
		}
	}
	want, twice := 0, 1
	if moved {
		want = 1
	}
	if s.killed {
		twice = 2 // nothing may say any more that it was sent
	}
	if events < want || events > want*twice {
		c.Errorf("%d events of the tag, want %d to %d: %+v", events, want, want*twice, c.events)
	}
	if own < 1 || own > twice {
		c.Errorf("%d events of the image itself, want 1 to %d: %+v", own, twice, c.events)
	}
	if n := len(c.cache.Copies()); n != 0 {
		c.Errorf("%d copies are left", n)
	}
	stop()
	start()
}
