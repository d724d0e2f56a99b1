package flight

import (
	"context"
	"encoding"
	"errors"
	"fmt"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

// openSpool makes the spool and takes up what a former process vouches for.
func (f *Flight) openSpool() error {
	spool, err := f.makeSpool()
	if err != nil {
		return err
	}
	if c, ok := spool.(store.Checkpointer); ok && !f.resume(c.Progress()) {
		// What is there is of no use. It must go: bytes are never written
		// twice, and a crash now must not find the old sidecar beside new bytes.
		_ = spool.Close()
		if spool, err = f.makeSpool(); err != nil {
			return err
		}
	}
	f.mu.Lock()
	f.spool = spool
	f.mu.Unlock()
	return nil
}

func (f *Flight) makeSpool() (store.Spool, error) {
	spool, err := f.req.Spool(f.ctx)
	switch {
	case err == nil:
		return spool, nil
	case errors.Is(err, ErrStored):
		return nil, err
	case f.ctx.Err() != nil: // it is not the store's fault
		return nil, context.Cause(f.ctx)
	}
	f.failed(err)
	return nil, broken(err)
}

// resume begins where p ends; false: that cannot be.
func (f *Flight) resume(p store.Progress) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p.Front <= 0 {
		return true
	}
	if f.size >= 0 && p.Size >= 0 && p.Size != f.size {
		return false
	}
	size := max(f.size, p.Size)
	u, ok := f.hash.(encoding.BinaryUnmarshaler)
	if !ok || size >= 0 && p.Front > size {
		return false
	}
	if u.UnmarshalBinary(p.Hash) != nil {
		f.hash.Reset()
		return false
	}
	f.size, f.front, f.checked, f.claimed = size, p.Front, p.Front, p.Front
	f.have = f.have.add(0, p.Front)
	return true
}

// progress is what a checkpoint vouches for. The front does not move meanwhile.
func (f *Flight) progress() (store.Progress, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.progressLocked()
}

func (f *Flight) progressLocked() (store.Progress, error) {
	m, ok := f.hash.(encoding.BinaryMarshaler)
	if !ok {
		return store.Progress{}, fmt.Errorf("flight: the state of %s cannot be saved", f.req.Digest.Algorithm())
	}
	state, err := m.MarshalBinary()
	if err != nil {
		return store.Progress{}, err
	}
	return store.Progress{Front: f.front, Size: f.size, Hash: state}, nil
}

// vouch begins a checkpoint when enough has come, off the readers' path. There
// the flight also learns whether its rule still covers it and whether anybody
// still waits.
func (f *Flight) vouch() {
	f.mu.Lock()
	due := f.front-f.checked >= checkpointSize && !f.vouching
	if due {
		f.checked = f.front
		f.vouching = true
		f.orphan()
	}
	f.mu.Unlock()
	if !due {
		return
	}
	p, err := f.progress()
	f.checkpoint.Go(func() {
		if c, ok := f.spool.(store.Checkpointer); ok && err == nil {
			if err := c.Checkpoint(p); err != nil {
				f.failed(err) // writing goes on while it can
			}
		}
		f.askRule()
		f.mu.Lock()
		f.vouching = false
		f.mu.Unlock()
	})
}

// askRule ends the flight if its rule is gone.
func (f *Flight) askRule() {
	ctx, cancel := context.WithTimeout(f.ctx, f.group.Idle)
	defer cancel()
	_, err := f.req.Open(ctx)
	if _, later := upstream.ClassOf(err); err != nil && !later && ctx.Err() == nil {
		f.cancel(&goneError{err})
	}
}
