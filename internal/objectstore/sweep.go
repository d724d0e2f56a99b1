package objectstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/pullthrough/pullthrough/store"
)

// Sweep drops uploads that were begun at least that long ago and are not finished: what a
// process that died in the middle of one has left. An upload that is still written then
// fails, so age is longer than any takes. If it is less than an hour, it is a day. Sweep
// returns how many uploads it has dropped. Any number of replicas may call it.
//
// The age is the difference of the server's clock to the one here; nothing worse than the
// above happens if they differ.
func (s *Store) Sweep(ctx context.Context, age time.Duration) (int, error) {
	if age < time.Hour {
		age = 24 * time.Hour
	}
	before := time.Now().Add(-age)
	n := 0
	for u, err := range s.bucket.Unfinished(ctx, s.root+"blobs/") {
		if err != nil {
			return n, err
		}
		if u.Begun.IsZero() || u.Begun.After(before) {
			continue
		}
		if err := s.bucket.Abort(ctx, u); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// ErrUnconditional reports a server that does not honour the conditions of writes. Tags that
// several replicas move there may go backwards.
var ErrUnconditional = errors.New("the server ignores the conditions of writes (If-None-Match, If-Match)")

// Check tries, with an object of its own, whether the bucket is there, whether everything is
// allowed that the store does, and whether the server honours the conditions of writes; if
// not, the error is [ErrUnconditional]. It is meant for the start of a program. It leaves
// nothing behind.
func (s *Store) Check(ctx context.Context) error {
	key := s.root + "check/" + rand.Text()
	if err := s.check(ctx, key); err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), silence)
		defer cancel()
		_ = s.bucket.Delete(ctx, key)
		return err
	}
	if err := s.bucket.Delete(ctx, key); err != nil {
		return doing("deleting an object", err)
	}
	return nil
}

func (s *Store) check(ctx context.Context, key string) error {
	for _, err := range s.bucket.List(ctx, Range{Prefix: s.root + "check/"}) {
		if err != nil {
			return doing("listing objects", err)
		}
		break
	}
	if _, err := s.bucket.Head(ctx, key); !errors.Is(err, store.ErrNotFound) {
		return doing("looking for an object that is not there", refused(err))
	}
	if err := s.bucket.Put(ctx, key, []byte("1"), IfAbsent); err != nil {
		return doing("writing an object", err)
	}
	_, cond, err := s.read(ctx, key)
	if err != nil {
		return doing("reading an object", err)
	}
	if err := s.bucket.Put(ctx, key, []byte("2"), cond); err != nil {
		return doing("writing an object with If-Match", err)
	}
	for _, stale := range []Condition{IfAbsent, cond} {
		if err := s.bucket.Put(ctx, key, []byte("3"), stale); !errors.Is(err, ErrChanged) {
			return doing("writing an object that has changed", refused(err))
		}
	}
	return s.checkUpload(ctx, key)
}

// checkUpload tries an upload in parts, and gives it up.
func (s *Store) checkUpload(ctx context.Context, key string) error {
	u, err := s.bucket.Begin(ctx, key)
	if err != nil {
		return doing("beginning an upload in parts", err)
	}
	if err := u.Part(ctx, []byte("4")); err != nil {
		_ = u.Abort(ctx)
		return doing("uploading a part", err)
	}
	if err := u.Abort(ctx); err != nil {
		return doing("aborting an upload", err)
	}
	for _, err := range s.bucket.Unfinished(ctx, s.root+"check/") {
		if err != nil {
			return doing("listing unfinished uploads", err)
		}
		break
	}
	return nil
}

// refused returns err, or, if what had to fail has succeeded, ErrUnconditional.
func refused(err error) error {
	if err == nil {
		return ErrUnconditional
	}
	return err
}

func doing(what string, err error) error { return fmt.Errorf("%s: %w", what, err) }
