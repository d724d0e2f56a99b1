package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/webhook"
)

// entry is something that happened to an image.
type entry struct {
	time   time.Time
	stage  string // a stage, or "scanner"
	what   string // "push", or what was decided
	tag    string // empty in the event of a manifest itself
	digest digest.Digest
}

// What is decided, beside the pushes of the stages.
const (
	push     = "push"
	clean    = "clean"
	rejected = "rejected"
	asked    = "asked" // production was asked for it for the first time
)

// trail is the audit trail: the events of all stages, and what the scanner and the gates
// decided. It receives the events over HTTP, signed. A real one would keep them on a disk.
type trail struct {
	secret string // that signs the events

	mu      sync.Mutex
	entries []entry
	ids     []string // of events: a delivery may be repeated
}

// ServeHTTP takes an event over. The path is /audit/STAGE.
func (t *trail) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ev, ok := t.event(w, r)
	if !ok {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !slices.Contains(t.ids, ev.ID) {
		t.ids = append(t.ids, ev.ID)
		t.entries = append(t.entries, entry{ev.Timestamp, r.PathValue("stage"), ev.Action, ev.Target.Tag, digest.Digest(ev.Target.Digest)})
	}
	w.WriteHeader(http.StatusNoContent)
}

// event reads an event. A request that is none, or that is not signed, is refused.
func (t *trail) event(w http.ResponseWriter, r *http.Request) (ev webhook.Event, ok bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err == nil {
		err = webhook.Verify(r.Header, body, time.Now(), t.secret)
	}
	if err == nil {
		err = json.Unmarshal(body, &ev)
	}
	if err != nil {
		http.Error(w, "this is not an event of ours", http.StatusForbidden)
		return ev, false
	}
	return ev, true
}

// decide adds a decision about a digest, unless it is there already, and returns it.
func (t *trail) decide(stage, what string, d digest.Digest) entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e, ok := t.find(stage, what, d); ok {
		return e
	}
	e := entry{time: time.Now(), stage: stage, what: what, digest: d}
	t.entries = append(t.entries, e)
	return e
}

// has returns the first entry about a digest at a stage. Of pushes it is that of a tag: what
// was pulled by its digest has passed no gate.
func (t *trail) has(stage, what string, d digest.Digest) (entry, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.find(stage, what, d)
}

// find is has; t.mu is held.
func (t *trail) find(stage, what string, d digest.Digest) (entry, bool) {
	for _, e := range t.entries {
		if e.stage == stage && e.what == what && e.digest == d && (what != push || e.tag != "") {
			return e, true
		}
	}
	return entry{}, false
}

// pushes counts the push events of a stage.
func (t *trail) pushes(stage string) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.entries {
		if e.stage == stage && e.what == push {
			n++
		}
	}
	return n
}

// wait waits until there is an entry about a digest at a stage that is one of what.
func (t *trail) wait(ctx context.Context, stage string, d digest.Digest, what ...string) (entry, error) {
	for {
		for _, w := range what {
			if e, ok := t.has(stage, w, d); ok {
				return e, nil
			}
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return entry{}, fmt.Errorf("the audit trail has nothing of %q for %s at %s: %w", what, d, stage, ctx.Err())
		}
	}
}
