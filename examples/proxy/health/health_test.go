package health_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/proxy/health"
	"github.com/pullthrough/pullthrough/examples/proxy/watch"
	"github.com/pullthrough/pullthrough/store"
)

// sick is a store whose records go wrong.
type sick struct {
	*store.Mem
	put, read, remove, keys error
	other                   bool // something else is read than was written
	hang                    chan struct{}
	writes                  atomic.Int64
}

func (s *sick) PutRecord(ctx context.Context, kind, key string, data []byte) error {
	if kind != "readiness" {
		return s.Mem.PutRecord(ctx, kind, key, data)
	}
	s.writes.Add(1)
	if s.hang != nil {
		<-s.hang
	}
	if s.put != nil {
		return s.put
	}
	return s.Mem.PutRecord(ctx, kind, key, data)
}

func (s *sick) Record(ctx context.Context, kind, key string) ([]byte, error) {
	if s.other {
		return []byte("something else"), nil
	}
	if s.read != nil {
		return nil, s.read
	}
	return s.Mem.Record(ctx, kind, key)
}

func (s *sick) DeleteRecord(ctx context.Context, kind, key string) error {
	if s.remove != nil {
		return s.remove
	}
	return s.Mem.DeleteRecord(ctx, kind, key)
}

func (s *sick) RecordKeys(ctx context.Context, kind string) iter.Seq2[string, error] {
	if s.keys != nil {
		return func(yield func(string, error) bool) { yield("", s.keys) }
	}
	return s.Mem.RecordKeys(ctx, kind)
}

// ask asks for /readyz.
func ask(t *testing.T, h http.Handler) (int, health.Report) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
	var r health.Report
	if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil {
		t.Errorf("%v: %s", err, w.Body)
	}
	return w.Code, r
}

// in runs a test in a bubble, with a proxy over a store.
func in(t *testing.T, s *sick, test func(t *testing.T, h *health.Ready)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s.Mem = &store.Mem{}
		c := &cache.Cache{Store: s}
		test(t, &health.Ready{Cache: c, Store: s})
		if err := c.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestReady: a proxy that can do its work says so, and leaves nothing in the store.
func TestReady(t *testing.T) {
	s := &sick{}
	in(t, s, func(t *testing.T, h *health.Ready) {
		status, r := ask(t, h)
		if status != http.StatusOK || !r.Ready || len(r.Checks) != 3 {
			t.Errorf("status %d, %+v", status, r)
		}
		for key, err := range s.RecordKeys(t.Context(), "readiness") {
			t.Errorf("left in the store: %s, %v", key, err)
		}
	})
}

// TestNotReady: each reason is named.
func TestNotReady(t *testing.T) {
	broken := errors.New("input/output error")
	for name, c := range map[string]struct {
		store       *sick
		check, want string
	}{
		"not written":    {&sick{put: broken}, "store", "the store takes nothing: input/output error"},
		"not read":       {&sick{read: broken}, "store", "the store cannot be read: input/output error"},
		"read otherwise": {&sick{other: true}, "store", "something else"},
		"not removed":    {&sick{remove: broken}, "store", "the store removes nothing: input/output error"},
		"a long reason":  {&sick{put: errors.New(strings.Repeat("x", 10000))}, "store", "xxx…"},
		"not listed":     {&sick{keys: broken}, "records", "input/output error"},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, c.store, func(t *testing.T, h *health.Ready) {
				status, r := ask(t, h)
				if status != http.StatusServiceUnavailable || r.Ready {
					t.Errorf("status %d, %+v", status, r)
				}
				for _, one := range r.Checks {
					if one.OK == (one.Name == c.check) || one.Name == c.check && !strings.Contains(one.Reason, c.want) || len(one.Reason) > 400 {
						t.Errorf("%+v, want that %s has %q", one, c.check, c.want)
					}
				}
			})
		})
	}
}

// TestStoreThatHangs: a probe is answered within the patience, and the store is asked once.
func TestStoreThatHangs(t *testing.T) {
	s := &sick{}
	in(t, s, func(t *testing.T, h *health.Ready) {
		s.hang = make(chan struct{}) // of the bubble
		for i := range 10 {
			begun := time.Now()
			status, r := ask(t, h)
			if took := time.Since(begun); status != http.StatusServiceUnavailable || took > watch.DefaultPatience || !strings.Contains(r.Checks[2].Reason, "does not answer: no answer since") {
				t.Errorf("try %d: status %d after %v, %+v", i, status, took, r.Checks[2])
			}
		}
		if n := s.writes.Load(); n != 1 {
			t.Errorf("it was asked %d times", n)
		}
		close(s.hang)
		synctest.Wait()
		if status, r := ask(t, h); status != http.StatusOK {
			t.Errorf("when it is back: status %d, %+v", status, r)
		}
	})
}

// TestProbesAreCheap: very many probes write little, and what they say is not old.
func TestProbesAreCheap(t *testing.T) {
	s := &sick{}
	in(t, s, func(t *testing.T, h *health.Ready) {
		for range 1000 {
			ask(t, h)
			time.Sleep(10 * time.Millisecond)
		}
		if n := s.writes.Load(); n < 4 || n > 6 {
			t.Errorf("%d writes in 10 s, want 5", n)
		}
		s.put = errors.New("the disk is gone")
		time.Sleep(2 * time.Second)
		if status, _ := ask(t, h); status != http.StatusServiceUnavailable {
			t.Errorf("status %d, two seconds after the disk was gone", status)
		}
	})
}

// TestEnding: from when the program begins to end, it is not ready.
func TestEnding(t *testing.T) {
	in(t, &sick{}, func(t *testing.T, h *health.Ready) {
		ending := make(chan struct{})
		h.Ending = ending
		if status, _ := ask(t, h); status != http.StatusOK {
			t.Errorf("before: status %d", status)
		}
		close(ending)
		if status, r := ask(t, h); status != http.StatusServiceUnavailable || !strings.Contains(r.Checks[0].Reason, "is ending") {
			t.Errorf("afterwards: status %d, %+v", status, r)
		}
	})
}

// TestUpstreamsAreShown: none is required, those in trouble come first, and there are not too many.
func TestUpstreamsAreShown(t *testing.T) {
	in(t, &sick{}, func(t *testing.T, h *health.Ready) {
		var hosts []watch.HostState
		for i := range 1000 {
			hosts = append(hosts, watch.HostState{Host: fmt.Sprint("h", i), Status: watch.HostOK})
		}
		hosts[999].Status = watch.HostUnreachable
		h.Hosts = func() []watch.HostState { return hosts }
		status, r := ask(t, h)
		if status != http.StatusOK || len(r.Upstreams) != 200 || r.Upstreams[0] != (health.Upstream{Host: "h999", Status: watch.HostUnreachable}) {
			t.Errorf("status %d, %d upstreams, %+v", status, len(r.Upstreams), r.Upstreams[0])
		}
	})
}

// TestStoreWithoutRecords is ready: it has nothing to write them to.
func TestStoreWithoutRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plain := struct{ store.Store }{&store.Mem{}}
		c := &cache.Cache{Store: plain}
		if status, r := ask(t, &health.Ready{Cache: c, Store: plain}); status != http.StatusOK {
			t.Errorf("status %d, %+v", status, r)
		}
		if err := c.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
