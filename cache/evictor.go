package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/evict"
	"github.com/pullthrough/pullthrough/internal/ledger"
	"github.com/pullthrough/pullthrough/internal/lru"
	"github.com/pullthrough/pullthrough/internal/origin"
	"github.com/pullthrough/pullthrough/store"
)

// evictor gives up images when space is short. It is safe for concurrent use.
type evictor struct {
	cfg     Eviction
	log     *slog.Logger
	local   *local
	origins *origin.Origins
	ledger  *ledger.Ledger

	kicks  chan struct{} // something was stored
	passes sync.Mutex    // held during a pass
	full   atomic.Bool   // there is more than MaxBytes
	unmet  atomic.Bool   // the log has said that a limit cannot be met
	images atomic.Int64  // given up
	bytes  atomic.Int64

	ghosts    evict.Ghosts                  // images that were given up
	back      *lru.Cache[blobOf, evict.Use] // those that came back
	began     time.Time
	rest      time.Time            // no pass begins by itself before; of run
	strangers map[blobOf]time.Time // blobs that no image names, and since when; passes guards it
}

func newEvictor(cfg Eviction, log *slog.Logger) *evictor {
	if cfg.Every <= 0 {
		cfg.Every = time.Minute
	}
	return &evictor{cfg: cfg, log: log, kicks: make(chan struct{}, 1), back: lru.New[blobOf, evict.Use](many), began: time.Now()}
}

// stored notes that a manifest was linked, and has the store looked at soon.
func (v *evictor) stored(repo string, d digest.Digest) {
	now := time.Now()
	if u := v.ghosts.Stored(repo, d, now); u != evict.FirstUse(now) {
		v.back.Put(newBlobOf(repo, d), u, 1)
	}
	v.kick()
}

// kickPause is the shortest time between two looks at the store.
const kickPause = 100 * time.Millisecond

// bringPause is how often the size of a near store is looked at, into which content comes
// that is read.
const bringPause = 2 * time.Second

// kick has the store looked at soon.
func (v *evictor) kick() {
	select {
	case v.kicks <- struct{}{}:
	default:
	}
}

// run looks at the store until ctx ends, and gives up what has to go.
func (v *evictor) run(ctx context.Context) {
	if err := v.cfg.Check(); err != nil {
		v.log.Error("nothing is evicted", "err", err)
		return
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	var brought <-chan time.Time // nothing says that something was brought near
	if v.local.tiered != nil {
		ticker := time.NewTicker(bringPause)
		defer ticker.Stop()
		brought = ticker.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			v.runIfDue(ctx, true)
			timer.Reset(v.cfg.Every)
		case <-brought:
			v.runIfDue(ctx, false)
		case <-v.kicks:
			v.runIfDue(ctx, false)
			pause := time.NewTimer(kickPause)
			select {
			case <-ctx.Done():
			case <-pause.C:
			}
			pause.Stop()
		}
	}
}

// shareOfPasses is how much longer than a pass took the time is in which none begins, if
// it is not for the size of the store; so all of them take a tenth of one core at most.
const shareOfPasses = 9

// runIfDue does a pass if a limit is reached. After one that could give up nothing, the
// next one waits, since it would look at every image again for nothing.
func (v *evictor) runIfDue(ctx context.Context, all bool) {
	begun := time.Now()
	size := v.due(ctx, false) // also notes whether the store has room
	if begun.Before(v.rest) || !size && !(all && v.due(ctx, true)) {
		return
	}
	gone := v.runOnce(ctx)
	pause := time.Duration(0)
	if !size || gone.Images == 0 {
		pause = shareOfPasses * time.Since(begun)
	}
	if gone.Images == 0 {
		pause = max(pause, v.cfg.Every/2)
	}
	v.rest = time.Now().Add(pause)
}

func (v *evictor) runOnce(ctx context.Context) Evicted {
	gone, err := v.pass(ctx)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		v.log.Error("images cannot be evicted", "err", err)
	case len(gone.Unmet) > 0 && !v.unmet.Swap(true):
		v.log.Warn("a limit of the store cannot be met: all that is left must stay", "limits", gone.Unmet)
	case len(gone.Unmet) == 0:
		v.unmet.Store(false)
	}
	if gone.Images > 0 {
		v.log.Info("images were evicted", "images", gone.Images, "bytes", gone.Bytes)
	}
	v.due(ctx, false)
	return gone
}

// due reports whether a limit is reached as far as that is known without a look at each
// image. With all, it looks at each image if there are limits that need it.
func (v *evictor) due(ctx context.Context, all bool) bool {
	need, err := v.need(ctx)
	return err == nil && need > 0 || all && (v.cfg.MaxAge > 0 || len(v.cfg.Rules) > 0)
}

// need returns how many bytes are to be freed because of the size of the store. Below
// the limits it is 0.
func (v *evictor) need(ctx context.Context) (int64, error) {
	if v.cfg.MaxBytes <= 0 && v.cfg.MinFree <= 0 {
		return 0, nil
	}
	sizer, ok := store.As[store.Sizer](v.local.near)
	if !ok {
		return 0, fmt.Errorf("the store does not know its size: %w", errors.ErrUnsupported)
	}
	size, err := sizer.Size(ctx)
	if err != nil {
		return 0, err
	}
	var need int64
	if most := v.cfg.MaxBytes; most > 0 {
		v.full.Store(size.Content >= most)
		if size.Content > most-most/32 {
			need = size.Content - (most - 3*(most/32))
		}
	}
	if least := v.cfg.MinFree; least > 0 && size.Free >= 0 && size.Free < least {
		need = max(need, least+least/16-size.Free)
	}
	return need, nil
}

// room returns [store.ErrFull] while there is more than MaxBytes.
func (v *evictor) room() error {
	if v.full.Load() {
		v.kick()
		return fmt.Errorf("%w: it has %d bytes or more, the most of Cache.Eviction", store.ErrFull, v.cfg.MaxBytes)
	}
	return nil
}

// limits are those of a plan that frees need bytes.
func (v *evictor) limits(need int64) evict.Limits {
	l := evict.Limits{Free: need, Rules: map[string]evict.Bound{}}
	if v.trustsClock() {
		l.Age = v.cfg.MaxAge
	}
	for name, most := range v.cfg.Rules {
		l.Rules[name] = evict.Bound{High: most}
	}
	return l
}

// settling is how long a process runs before it gives up what is old: after a long pause
// of the cache, what is needed is pulled first.
const settling = time.Hour

// trustsClock reports whether the age of images can be told: not soon after the start,
// and not after the clock of the machine was set far ahead.
func (v *evictor) trustsClock() bool {
	now := time.Now()
	ran, says := now.Sub(v.began), now.Round(0).Sub(v.began.Round(0))
	return ran >= settling && says-ran < settling
}

// pass looks at every image and gives up what has to go.
func (v *evictor) pass(ctx context.Context) (gone Evicted, err error) {
	v.passes.Lock()
	defer v.passes.Unlock()
	if err := errors.Join(v.cfg.Check(), ctx.Err()); err != nil {
		return gone, err
	}
	need, err := v.need(ctx)
	if err != nil {
		return gone, err
	}
	v.local.claims.begin()
	defer v.local.claims.end()
	s, err := v.scan(ctx)
	if err != nil {
		return gone, err
	}
	if err := v.dropStrangers(ctx, s, need); err != nil {
		return gone, err
	}
	left, err := v.need(ctx)
	if err != nil {
		return gone, err
	}
	plan := s.graph.Plan(v.limits(left), time.Now())
	for _, u := range plan.Unmet {
		gone.Unmet = append(gone.Unmet, u.String())
	}
	err = v.carryOut(ctx, s, plan, &gone)
	return gone, err
}
