package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/store"
)

// spy is a store that notes its calls, and may meet them with something else.
type spy struct {
	*store.Mem
	mu      sync.Mutex
	calls   []string
	meet    func(ctx context.Context, call string) error // called with no lock held; nil meets nothing
	after   func(call string)                            // called when Mem has answered, with no lock held; nil does nothing
	bytes   func(d digest.Digest) []byte                 // what Open reads instead
	adopted atomic.Int64
	most    atomic.Int64 // spools take no bytes from there on; 0: they do
}

func newSpy() *spy { return &spy{Mem: new(store.Mem)} }

var errSpy = errors.New("no connection")

// fails makes the calls fail that begin with one of some words.
func (s *spy) fails(words ...string) {
	s.meets(func(context.Context) error { return errSpy }, words...)
}

// hangs makes calls wait for the end of their context.
func (s *spy) hangs(words ...string) {
	s.meets(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, words...)
}

func (s *spy) meets(with func(context.Context) error, words ...string) {
	s.set(func(ctx context.Context, call string) error {
		for _, w := range words {
			if strings.HasPrefix(call, w) {
				return with(ctx)
			}
		}
		return nil
	})
}

func (s *spy) works() { s.set(nil) }

func (s *spy) set(meet func(ctx context.Context, call string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.meet = meet
}

func (s *spy) call(ctx context.Context, format string, args ...any) error {
	call := fmt.Sprintf(format, args...)
	s.mu.Lock()
	s.calls = append(s.calls, call)
	meet := s.meet
	s.mu.Unlock()
	if meet == nil {
		return nil
	}
	return meet(ctx, call)
}

// take returns the calls since the last time, and forgets them.
func (s *spy) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := s.calls
	s.calls = nil
	return calls
}

func (s *spy) Stat(ctx context.Context, repo string, d digest.Digest) (store.Info, error) {
	if err := s.call(ctx, "Stat %s", short(d)); err != nil {
		return store.Info{}, err
	}
	defer s.answered("Stat " + short(d))
	return s.Mem.Stat(ctx, repo, d)
}

// answered is the moment between the answer of Mem and its arrival.
func (s *spy) answered(call string) {
	s.mu.Lock()
	after := s.after
	s.mu.Unlock()
	if after != nil {
		after(call)
	}
}

// arrive makes the answers to calls that begin with a word come later.
func (s *spy) arrive(later time.Duration, word string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.after = func(call string) {
		if strings.HasPrefix(call, word) {
			time.Sleep(later)
		}
	}
}

func (s *spy) Open(ctx context.Context, repo string, d digest.Digest) (store.Info, io.ReadSeekCloser, error) {
	if err := s.call(ctx, "Open %s", short(d)); err != nil {
		return store.Info{}, nil, err
	}
	defer s.answered("Open " + short(d))
	info, r, err := s.Mem.Open(ctx, repo, d)
	if err == nil && s.bytes != nil {
		if other := s.bytes(d); other != nil {
			r = nopCloser{bytes.NewReader(other)}
		}
	}
	return info, r, err
}

type nopCloser struct{ io.ReadSeeker }

func (nopCloser) Close() error { return nil }

func (s *spy) Create(ctx context.Context, repo string, want store.Info) (store.Writer, error) {
	if err := s.call(ctx, "Create %s", short(want.Digest)); err != nil {
		return nil, err
	}
	w, err := s.Mem.Create(ctx, repo, want)
	return spyWriter{w, s, want.Digest}, err
}

type spyWriter struct {
	store.Writer
	s *spy
	d digest.Digest
}

func (w spyWriter) Write(p []byte) (int, error) {
	w.s.mu.Lock()
	meet := w.s.meet
	w.s.mu.Unlock()
	if meet != nil { // it is no call, since there may be any number
		if err := meet(context.Background(), "Write "+short(w.d)); err != nil {
			return 0, err
		}
	}
	return w.Writer.Write(p)
}

func (w spyWriter) Commit(ctx context.Context) error {
	if err := w.s.call(ctx, "Commit %s", short(w.d)); err != nil {
		return err
	}
	return w.Writer.Commit(ctx)
}

func (s *spy) Spool(ctx context.Context, repo string, want store.Info) (store.Spool, error) {
	if err := s.call(ctx, "Spool %s", short(want.Digest)); err != nil {
		return nil, err
	}
	spool, err := s.Mem.Spool(ctx, repo, want)
	if most := s.most.Load(); err == nil && most > 0 {
		spool = shortSpool{spool, most}
	}
	return spool, err
}

type shortSpool struct {
	store.Spool
	most int64
}

func (s shortSpool) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > s.most {
		return 0, store.ErrFull
	}
	return s.Spool.WriteAt(p, off)
}

func (s *spy) Adopt(ctx context.Context, repo string, want store.Info, allowed func(context.Context, io.ReadSeeker) error) error {
	if err := s.call(ctx, "Adopt %s", short(want.Digest)); err != nil {
		return err
	}
	defer s.answered("Adopt " + short(want.Digest))
	err := s.Mem.Adopt(ctx, repo, want, allowed)
	if err == nil {
		s.adopted.Add(1)
	}
	return err
}

func (s *spy) Tag(ctx context.Context, repo, tag string) (store.Tag, error) {
	if err := s.call(ctx, "Tag %s", tag); err != nil {
		return store.Tag{}, err
	}
	defer s.answered("Tag " + tag)
	return s.Mem.Tag(ctx, repo, tag)
}

func (s *spy) SetTag(ctx context.Context, repo, tag string, t store.Tag) error {
	if err := s.call(ctx, "SetTag %s", tag); err != nil {
		return err
	}
	return s.Mem.SetTag(ctx, repo, tag, t)
}

func (s *spy) Delete(ctx context.Context, repo string, d digest.Digest) error {
	if err := s.call(ctx, "Delete %s", short(d)); err != nil {
		return err
	}
	return s.Mem.Delete(ctx, repo, d)
}

func (s *spy) DeleteTag(ctx context.Context, repo, tag string) error {
	if err := s.call(ctx, "DeleteTag %s", tag); err != nil {
		return err
	}
	return s.Mem.DeleteTag(ctx, repo, tag)
}

func (s *spy) TagNames(ctx context.Context, repo, last string) iter.Seq2[string, error] {
	return met(ctx, s, "TagNames", s.Mem.TagNames(ctx, repo, last))
}

func (s *spy) Blobs(ctx context.Context, repo string) iter.Seq2[store.Info, error] {
	return met(ctx, s, "Blobs", s.Mem.Blobs(ctx, repo))
}

// met is a list whose entries, and whose end, are calls.
func met[T any](ctx context.Context, s *spy, name string, list iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		n := 0
		for v, err := range list {
			if n++; err == nil {
				err = s.call(ctx, "%s %d", name, n)
			}
			if !yield(v, err) || err != nil {
				return
			}
		}
		if err := s.call(ctx, "%s end", name); err != nil {
			yield(*new(T), err)
		}
	}
}

func short(d digest.Digest) string { return d.Encoded()[:6] }

// tierTest is a Tier of two spies in a bubble.
type ctxType = context.Context

type tierTest struct {
	*testing.T
	near, far *spy
	tier      *store.Tier
}

func inTier(t *testing.T, test func(t *tierTest)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		x := &tierTest{T: t, near: newSpy(), far: newSpy()}
		x.tier = newTier(t, x.near, x.far)
		test(x)
	})
}

// restart is a new process with the same stores.
func (t *tierTest) restart() {
	t.Helper()
	synctest.Wait()
	t.tier = newTier(t, t.near, t.far)
	t.near.take()
	t.far.take()
}

// elsewhere is a replica with a near store of its own.
func (t *tierTest) elsewhere() (other *store.Tier, near *store.Mem) {
	t.Helper()
	near = new(store.Mem)
	return newTier(t, near, t.far), near
}

// asked fails unless Far was called that often, after everything behind the calls is done.
func (t *tierTest) asked(want int, what string) {
	t.Helper()
	synctest.Wait()
	if calls := t.far.take(); len(calls) != want {
		t.Errorf("%s: far was called %d times, want %d: %q", what, len(calls), want, calls)
	}
}

type digestType = digest.Digest

// eventually waits for what is done behind the calls.
func eventually(t testing.TB, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not happen")
		}
	}
}
