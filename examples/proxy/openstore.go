package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/pullthrough/pullthrough/store"
)

const (
	checkEvery = 7 * 24 * time.Hour // for everything in a folder to be checked and repaired
	sweepEvery = 24 * time.Hour     // for what is left of uploads to a bucket that never ended
	askTimeout = 20 * time.Second   // at the start, for a bucket to show that it does what it must
)

// keptStore is a store with all that must be closed at its end.
type keptStore struct {
	store.Store
	ends []func() error
}

// Close closes in the opposite order of opening.
func (k *keptStore) Close() error {
	var faults []error
	for i := len(k.ends) - 1; i >= 0; i-- {
		faults = append(faults, k.ends[i]())
	}
	k.ends = nil
	return errors.Join(faults...)
}

// openStore opens the store that the file names. What it does by itself ends with Close.
func (s *settings) openStore(ctx context.Context, log *slog.Logger) (*keptStore, error) {
	k := &keptStore{Store: &store.Mem{}}
	if s.storePath != "" {
		dir, err := store.OpenDir(s.storePath)
		if err != nil {
			return nil, err
		}
		dir.Logger, dir.CheckEvery = log, checkEvery
		if err := dir.Rebuilt(); err != nil {
			log.Error("the store was damaged and begins anew; what is pulled is copied again", "error", err)
		}
		k.Store, k.ends = dir, append(k.ends, dir.Close)
	}
	if s.far == nil {
		return k, nil
	}
	far, err := s.far.open(log)
	if err == nil {
		err = s.far.check(ctx, far, log)
	}
	if err != nil {
		return nil, errors.Join(err, k.Close())
	}
	k.ends = append(k.ends, sweeping(far, log))
	tier := &store.Tier{Near: k.Store, Far: far, Logger: log}
	k.Store, k.ends = tier, append(k.ends, tier.Close)
	return k, nil
}

// remoteStore is a store in a bucket.
type remoteStore interface {
	store.Store
	// Check reports what the server does not do.
	Check(ctx context.Context) error
	// Sweep drops uploads that began longer ago.
	Sweep(ctx context.Context, age time.Duration) (int, error)
}

// bucket is a store that is not on this machine.
type bucket struct {
	name          string // for people
	open          func(*slog.Logger) (remoteStore, error)
	unconditional error // that Check wraps if the server cannot be used
}

// check tries whether the server does what it must. One that does not answer is no error: what
// is near is served until it does, and everything else comes from upstreams.
func (b *bucket) check(ctx context.Context, far remoteStore, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	err := far.Check(ctx)
	switch {
	case errors.Is(err, b.unconditional):
		return err
	case err != nil:
		log.Error("the bucket of the store cannot be used now; what is not near comes from upstreams until it can", "store", b.name, "error", err)
	}
	return nil
}

// sweeping drops what is left of unfinished uploads now and then, until end is called.
func sweeping(far remoteStore, log *slog.Logger) (end func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		ticker := time.NewTicker(sweepEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			n, err := far.Sweep(ctx, 0)
			switch {
			case err != nil && ctx.Err() == nil:
				log.Warn("uploads that were never finished cannot be looked for", "error", err)
			case n > 0:
				log.Info("uploads that were never finished were dropped", "uploads", n)
			}
		}
	})
	return func() error {
		cancel()
		done.Wait()
		return nil
	}
}
