package store

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/gate"
)

const (
	// bringsAtOnce is how much is brought near at once.
	bringsAtOnce = 4
	// bringsMost is how much waits for that. What is too much is brought when it is read
	// again.
	bringsMost = 256
)

// tierWork is what a Tier does beside its calls. It is safe for concurrent use.
type tierWork struct {
	gate   *gate.Gate
	ctx    context.Context // ends with close
	cancel context.CancelFunc
	places chan struct{}

	mu      sync.Mutex
	pending map[farKey]bool
}

func newTierWork() *tierWork {
	w := &tierWork{gate: new(gate.Gate), places: make(chan struct{}, bringsAtOnce), pending: make(map[farKey]bool)}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return w
}

// do does something behind the caller, unless the same is under way or there is too much.
func (w *tierWork) do(k farKey, f func(ctx context.Context)) {
	if !w.enter(k) {
		return
	}
	w.gate.Go(func() {
		defer w.leave(k)
		select {
		case w.places <- struct{}{}:
			defer func() { <-w.places }()
			f(w.ctx)
		case <-w.ctx.Done():
		}
	})
}

// enter notes that something is under way, unless it is already or there is too much.
func (w *tierWork) enter(k farKey) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pending[k] || len(w.pending) >= bringsMost {
		return false
	}
	w.pending[k] = true
	return true
}

func (w *tierWork) leave(k farKey) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.pending, k)
}

// reserve is enter for what is to begin at once: it reports whether there is a place. Then
// run or release follows.
func (w *tierWork) reserve(k farKey) bool {
	if !w.enter(k) {
		return false
	}
	select {
	case w.places <- struct{}{}:
		return true
	default:
		w.leave(k)
		return false
	}
}

// run does what a place was reserved for, behind the caller, unless the Tier was closed.
func (w *tierWork) run(k farKey, f func(ctx context.Context)) bool {
	return w.gate.Go(func() {
		defer w.release(k)
		f(w.ctx)
	})
}

func (w *tierWork) release(k farKey) {
	<-w.places
	w.leave(k)
}

func (w *tierWork) close() {
	w.gate.Close()
	w.cancel()
	_ = w.gate.Wait(context.Background())
}

// bring brings content near that Far was found to have after so many deletions. data are
// the bytes of a manifest, and nil for a blob, which is read far once more.
func (t *Tier) bring(repo string, info Info, deletions int64, data []byte) {
	t.state().work.do(linkOf(repo, info.Digest), func(ctx context.Context) {
		var err error
		if data != nil {
			err = put(ctx, t.Near, repo, info, bytes.NewReader(data))
		} else {
			err = t.download(ctx, repo, info)
		}
		if err != nil && ctx.Err() == nil {
			t.log().Warn("content of the far store cannot be brought near", "repository", repo, "digest", info.Digest.String(), "err", err)
		}
		if err == nil && t.state().memory.deletions.Load() != deletions {
			t.confirm(ctx, repo, info.Digest)
		}
	})
}

// recheck looks behind a reader whether Far still has a manifest that is near, unless that
// is known. If not, another process has deleted it.
func (t *Tier) recheck(repo string, d digest.Digest) {
	m := &t.state().memory
	if f, ok := m.has(linkOf(repo, d)); ok && time.Since(f.at) < recheckAfter {
		return
	}
	t.state().work.do(farKey{repo, "recheck", d}, func(ctx context.Context) {
		era := m.now()
		info, err := t.statFar(ctx, repo, d)
		err = t.learned(repo, d, info, era, ErrNotFound, err)
		if !errors.Is(err, ErrNotFound) {
			return
		}
		t.log().Info("a manifest is not in the far store any more; it is given up near", "repository", repo, "digest", d.String())
		if err := t.deleteNear(ctx, repo, d); err != nil {
			t.log().Warn("a manifest that was deleted far stays near", "repository", repo, "digest", d.String(), "err", err)
		}
	})
}

// download copies a blob of Far near.
func (t *Tier) download(ctx context.Context, repo string, info Info) error {
	err := t.transfer(ctx, func(ctx context.Context, moves func()) error {
		info, r, err := t.Far.Open(ctx, repo, info.Digest)
		if err != nil {
			return err
		}
		defer r.Close()
		return put(ctx, movingStore{t.Near, moves, asNear}, repo, info, r)
	})
	if errors.Is(err, errDamagedCopy) {
		t.damaged(repo, info)
	}
	return err
}

// confirm gives up near what was brought while something was deleted, unless Far still has
// it.
func (t *Tier) confirm(ctx context.Context, repo string, d digest.Digest) {
	_, err := t.statFar(ctx, repo, d)
	if err == nil {
		return
	}
	if derr := t.deleteNear(ctx, repo, d); derr != nil && !errors.Is(derr, errors.ErrUnsupported) {
		t.log().Error("what was deleted may be left near", "repository", repo, "digest", d.String(), "err", derr)
	}
}

// deleteNear gives up content near.
func (t *Tier) deleteNear(ctx context.Context, repo string, d digest.Digest) error {
	s, ok := As[Deleter](t.Near)
	if !ok {
		return errors.ErrUnsupported
	}
	return s.Delete(context.WithoutCancel(ctx), repo, d)
}
