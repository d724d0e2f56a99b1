package cache_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// TestPeerNeverGetsWrongBytesWhole: the last 64 KiB of what is asked for whole wait for the
// digest, and what does not match it has no end.
func TestPeerNeverGetsWrongBytesWhole(t *testing.T) {
	const size, held = mib, 64 << 10
	for _, header := range [][]string{nil, {"Range", "bytes=0-"}, {"Range", fmt.Sprintf("bytes=0-%d", size-1)}} {
		s := newStory(t, oneConnection)
		p := s.replica()
		d := s.oneBlob(size)
		s.up.Fail(upstreamtest.Fault{Kind: "blob", Flip: true, FlipAt: 7})
		r := p.get(p.pathOf(d), header...)
		early := r.StatusCode == http.StatusBadGateway && r.err == nil // the digest was wrong before the header was out
		if !early && (r.err == nil || len(r.body) > size-held) {
			t.Errorf("%v: status %d, %d bytes, %v", header, r.StatusCode, len(r.body), r.err)
		}
		s.settle()
		p.wantNothing(d)
		small := s.oneBlob(held)
		if r := p.get(p.pathOf(small), header...); r.StatusCode != http.StatusBadGateway || r.err != nil {
			t.Errorf("%v: a small blob: status %d, %v", header, r.StatusCode, r.err)
		}
		s.up.Heal()
		if r := p.get(p.pathOf(d), header...); r.err != nil || digest.FromBytes(r.body) != d {
			t.Errorf("%v: the next time: status %d, %d bytes, %v", header, r.StatusCode, len(r.body), r.err)
		}
	}
}

// TestPeerSeesTheEndOfWrongBytes: a response without a length has no clean end if it is not
// whole.
func TestPeerSeesTheEndOfWrongBytes(t *testing.T) {
	const size = mib
	s := newStory(t, oneConnection)
	p := s.replica()
	d := s.oneBlob(size)
	s.up.Fail(upstreamtest.Fault{Kind: "blob", NoLength: true, Flip: true, FlipAt: 7, Stall: size / 2})
	r, err := p.web.Client().Get(p.web.URL + p.pathOf(d)) // the header is out
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	s.up.Release()
	if n, err := io.Copy(io.Discard, r.Body); err == nil || r.ContentLength >= 0 {
		t.Errorf("status %d: %d bytes of %d have a clean end", r.StatusCode, n, r.ContentLength)
	}
}

// TestPeerHearsOfTroubleUpstream: the answer is the one that a client gets.
func TestPeerHearsOfTroubleUpstream(t *testing.T) {
	for status, want := range map[int]int{403: 403, 404: 404, 429: 429, 500: 502} {
		s := newStory(t)
		p := s.replica()
		s.up.Fail(upstreamtest.Fault{Kind: "blob", Status: status, RetryAfter: "7"})
		if r := p.get(p.pathOf(s.oneBlob(1000))); r.StatusCode != want || r.err != nil {
			t.Errorf("upstream %d: status %d, want %d", status, r.StatusCode, want)
		}
		s.up.Heal()
	}
	s := newStory(t, oneConnection)
	p := s.replica()
	d := s.oneBlob(mib)
	s.up.Fail(upstreamtest.Fault{Kind: "blob", Cut: 100_000, Times: 1})
	if r := p.get(p.pathOf(d)); r.err != nil || digest.FromBytes(r.body) != d || s.gets(d) != 2 {
		t.Errorf("a cut: %d bytes over %d connections, %v", len(r.body), s.gets(d), r.err)
	}
}

// TestPeerDoesNotWaitForASlot: where a download would have to wait, the answer is 503 at
// once, also where one waits already. One that is under way is joined, and another rule,
// which still has its slots, is not concerned.
func TestPeerDoesNotWaitForASlot(t *testing.T) {
	inBubble(t, func(c *clock) {
		if err := c.rules.Create(rule.Rule{Name: "other", Source: source + "/other/*", Target: "lib/*"}); err != nil {
			t.Fatal(err)
		}
		others := c.up.AddBlob("other/api", upstreamtest.Bytes(1, 1000))
		if w := c.servePeer("lib/api", c.otherSource(), others); w.Code != http.StatusOK { // the other rule is active
			t.Fatal(w.Code)
		}
		c.up.Fail(upstreamtest.Fault{Kind: "blob", Repository: "team/api", Latency: 10 * time.Second})
		var blobs []digest.Digest
		for i := range 5 {
			blobs = append(blobs, c.up.AddBlob("team/api", upstreamtest.Bytes(uint64(i)+100, 100_000)))
			if i < 4 { // three have slots, one waits, one is not asked for
				go c.take(blobs[i])
				c.pass(0)
			}
		}
		begun := time.Now()
		for i, d := range blobs[3:] {
			w := c.servePeer("app/api", c.sourceOf("api"), d)
			if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || !time.Now().Equal(begun) {
				t.Errorf("blob %d: status %d after %v", 3+i, w.Code, time.Since(begun))
			}
			if b := c.cache.StatPeer(t.Context(), "app/api", c.sourceOf("api"), d); b != (cache.PeerBlob{Size: -1}) {
				t.Errorf("blob %d: %+v, and it has no slot", 3+i, b)
			}
		}
		if b := c.cache.StatPeer(t.Context(), "app/api", c.sourceOf("api"), blobs[0]); !b.Coming || b.Stored {
			t.Errorf("%+v of a download under way", b)
		}
		another := c.up.AddBlob("other/api", upstreamtest.Bytes(2, 1000))
		if w := c.servePeer("lib/api", c.otherSource(), another); w.Code != http.StatusOK || !time.Now().Equal(begun) {
			t.Errorf("the other rule: status %d after %v", w.Code, time.Since(begun))
		}
		if w := c.servePeer("app/api", c.sourceOf("api"), blobs[0]); w.Code != http.StatusOK || w.Body.Len() != 100_000 || time.Since(begun) > 10*time.Second {
			t.Errorf("joining: status %d, %d bytes after %v", w.Code, w.Body.Len(), time.Since(begun))
		}
		c.pass(time.Minute)
		for _, d := range blobs[:4] {
			if n := c.blobs(d); n != 1 {
				t.Errorf("%d requests at the upstream for a blob", n)
			}
		}
		if w := c.servePeer("app/api", c.sourceOf("api"), blobs[4]); w.Code != http.StatusOK {
			t.Errorf("with free slots: status %d", w.Code)
		}
	}, func(c *clock) { c.cache.Limits.Downloads = 4 })
}

func (c *clock) otherSource() (s upstream.Source) {
	s = c.sourceOf("api")
	s.Rule, s.Repository = "other", "other/api"
	return s
}

// TestPeerThatStopsReadingIsLetGo: of what is stored, and of what is on its way.
func TestPeerThatStopsReadingIsLetGo(t *testing.T) {
	s := newStory(t, onDir, func(s *story) { s.cache.Limits.SendTimeout = time.Second })
	p := s.replica()
	stored, flying := s.oneBlob(64*mib), s.oneBlob(64*mib+1)
	if _, body, err := s.cache.Blob(t.Context(), "app/api", stored); err != nil {
		t.Fatal(err)
	} else if _, err := io.Copy(io.Discard, body); err != nil {
		t.Fatal(err)
	}
	s.settle()
	for _, d := range []digest.Digest{stored, flying} {
		p.deaf(p.pathOf(d))
		select {
		case <-p.ended:
		case <-time.After(2 * time.Minute):
			t.Fatal("a replica that does not read is waited for")
		}
	}
}

// TestPeerAfterShutdown: nothing begins any more, and nothing panics.
func TestPeerAfterShutdown(t *testing.T) {
	s := newStory(t)
	p := s.replica()
	stored, missing := s.oneBlob(100_000), s.oneBlob(100_001)
	s.wantBlob("app/api", stored)
	s.settle()
	if err := s.cache.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.up.Reset()
	if r := p.get(p.pathOf(missing)); r.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("status %d", r.StatusCode)
	}
	if got, want := p.get(p.pathOf(stored)), s.blob("app/api", stored); got.StatusCode != want.StatusCode || len(got.body) != len(want.body) {
		t.Errorf("what is stored: status %d, and a client gets %d", got.StatusCode, want.StatusCode)
	}
	p.wantNothing(missing)
	s.wantUpstream(nil)
	var never cache.Cache
	if err := never.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b := never.StatPeer(t.Context(), "app/api", s.sourceOf("api"), stored); b != (cache.PeerBlob{Size: -1, Refused: true}) {
		t.Errorf("%+v of a cache that never ran", b)
	}
}

// deadStore fails whatever it is asked.
type deadStore struct{ store.Store }

var errDead = errors.New("the store is dead")

func (deadStore) Stat(context.Context, string, digest.Digest) (store.Info, error) {
	return store.Info{}, errDead
}

func (deadStore) Open(context.Context, string, digest.Digest) (store.Info, io.ReadSeekCloser, error) {
	return store.Info{}, nil, errDead
}

func (deadStore) Spool(context.Context, string, store.Info) (store.Spool, error) { return nil, errDead }

func (deadStore) Adopt(context.Context, string, store.Info, func(context.Context, io.ReadSeeker) error) error {
	return errDead
}

// TestPeerOfACacheWhoseStoreFails gets the blob nevertheless, and no wrong one.
func TestPeerOfACacheWhoseStoreFails(t *testing.T) {
	s := newStory(t, oneConnection, func(s *story) { s.cache.Store = deadStore{s.cache.Store} })
	p := s.replica()
	for _, size := range []int{1000, 300_000} {
		d := s.oneBlob(size)
		if r := p.get(p.pathOf(d)); r.StatusCode != 200 || r.err != nil || digest.FromBytes(r.body) != d {
			t.Errorf("status %d, %d bytes of %d, %v", r.StatusCode, len(r.body), size, r.err)
		}
		p.wantNothing(d)
	}
	wrong := s.oneBlob(300_001)
	s.up.Fail(upstreamtest.Fault{Kind: "blob", Flip: true, FlipAt: 7})
	if r := p.get(p.pathOf(wrong)); r.err == nil {
		t.Errorf("status %d, %d bytes that are wrong", r.StatusCode, len(r.body))
	}
	if s.cache.Stats().StoreErrors == 0 {
		t.Error("the store is in no trouble")
	}
}

// TestPeerWhenTheRuleGoesMeanwhile: a rule that was removed when the download begins is as if
// there had been none.
func TestPeerWhenTheRuleGoesMeanwhile(t *testing.T) {
	var asked atomic.Int64
	s := newStory(t, func(s *story) {
		s.cache.Rules = callback{s.rules, func() {
			if asked.Add(1) == 2 {
				if err := s.rules.Delete("team"); err != nil {
					s.Error(err)
				}
			}
		}}
	})
	p := s.replica()
	s.wantError(p.get(p.pathOf(s.oneBlob(1000))), 404, "BLOB_UNKNOWN")
	s.wantUpstream(nil)
	if n := asked.Load(); n < 2 {
		t.Errorf("the rules were asked %d times", n)
	}
}
