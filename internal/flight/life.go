package flight

import (
	"context"
	"errors"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

// run is the life of a flight.
func (f *Flight) run() {
	err := f.download()
	f.dispute(err)
	f.settle(err)
	f.cancel(err) // of segments and checkpoints; both are in the way of what follows
	f.segmentsStop()
	f.checkpoint.Wait()
	if err == nil {
		f.commit()
	} else {
		f.keep(err)
	}
	f.mu.Lock()
	f.ending = true
	f.mu.Unlock()
	close(f.done)
	if err != nil { // the spool is closed already
		f.group.forget(f)
		return
	}
	f.drop()
}

// dispute says so if a download ended because of its size.
func (f *Flight) dispute(err error) {
	if errors.Is(err, ErrSize) && f.req.Disputed != nil {
		f.req.Disputed()
	}
}

// settle makes the verdict known and wakes everyone.
func (f *Flight) settle(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err == nil:
		f.verified = true
		f.answer()
	case errors.Is(err, errBroken):
		f.broken, f.ending = err, true
		f.state, _ = f.progressLocked() // without it readers begin at 0
	default:
		f.err, f.ending = err, true
	}
	if !f.answered { // an end is no answer: nothing is released by it
		close(f.live)
	}
	close(f.verdict)
	f.wake()
}

// commit makes the bytes the store's. The readers do not wait for it. A rule
// that is gone since, or a group that closes, does not undo what was verified.
func (f *Flight) commit() {
	got := store.Info{}
	got.Digest, got.Size = f.req.Digest, f.size
	if err := f.spool.Commit(f.group.commits, got); err != nil {
		f.stored = broken(err)
		f.failed(err)
	}
}

func (f *Flight) failed(err error) {
	if f.group.StoreFailed != nil {
		f.group.StoreFailed(f.req.Key, err)
	}
}

// keep leaves what came for a later flight, unless it is known to be wrong, the
// rule is gone or the store has failed. Nobody opens the spool after that.
func (f *Flight) keep(err error) {
	f.mu.Lock()
	spool, front := f.spool, f.front
	f.spool = nil
	f.mu.Unlock()
	if spool == nil {
		return
	}
	var gone *goneError
	wrong := errors.Is(err, ErrDigest) || errors.Is(err, ErrSize) || errors.Is(err, ErrTooLarge) || errors.Is(err, errBroken) || errors.As(err, &gone)
	c, ok := spool.(store.Checkpointer)
	if !ok || front == 0 || wrong {
		_ = spool.Close()
		return
	}
	if f.checked < front {
		if p, err := f.progress(); err == nil {
			_ = c.Checkpoint(p)
		}
	}
	_ = c.Keep() // what cannot be kept is fetched again
}

// drop gives up one who may open the spool of a flight that runs or ended well;
// the last one closes it. There is at most one spool for a blob, so only then
// may another flight begin.
func (f *Flight) drop() {
	f.mu.Lock()
	if f.err != nil || f.broken != nil {
		f.mu.Unlock()
		return
	}
	f.openers--
	last, spool := f.openers == 0, f.spool
	if last {
		f.spool = nil
	}
	f.mu.Unlock()
	if last {
		_ = spool.Close()
		f.group.forget(f)
	}
}

// orphan ends the flight if nobody waits, and much is missing or nothing has come.
// f.mu is held.
func (f *Flight) orphan() {
	if f.clients > 0 || f.jobs > 0 || f.over() {
		return
	}
	left := f.front // of unknown size: as much again
	if f.size >= 0 {
		left = f.size - f.front
	}
	select {
	case <-f.placed:
		if f.granted && left <= f.group.Orphan && f.group.Orphan >= 0 {
			return
		}
	default: // it has not even begun
	}
	f.ending = true
	f.cancel(ErrAbandoned)
}

// slow is what a reader gets whose upstream does not answer in time.
func (f *Flight) slow() *upstream.Error {
	return &upstream.Error{
		Source: f.req.Source, Op: "GET blob " + f.req.Digest.String(),
		Class: upstream.Unreachable, Timeout: true, Err: context.DeadlineExceeded,
	}
}
