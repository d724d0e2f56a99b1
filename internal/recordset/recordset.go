// Package recordset keeps values of one type as records of one kind in a store:
// each value is a JSON document under a key of its own.
//
// Records outlive the process that wrote them, and may be damaged by then. Such a
// record stops nobody: [Set.Load] hands it over with its error and goes on, and its
// user decides whether to log, keep or delete it.
package recordset

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
)

// Records keeps small records. It is the method set of package store's Records,
// with the same guarantees.
type Records interface {
	PutRecord(ctx context.Context, kind, key string, data []byte) error
	Record(ctx context.Context, kind, key string) ([]byte, error)
	DeleteRecord(ctx context.Context, kind, key string) error
	RecordKeys(ctx context.Context, kind string) iter.Seq2[string, error]
}

// ErrDamaged reports a record that was read, but is not the JSON of a value, or is
// that of a value which does not belong to its key.
var ErrDamaged = errors.New("the record is damaged")

// Change puts a record, or deletes it if Data is nil.
type Change struct {
	Kind, Key string
	Data      []byte
}

// Set is the records of one kind. Its fields must not change after first use. It is
// safe for concurrent use, and the last of several writes of one key stays, as far
// as Records guarantees that.
type Set[T any] struct {
	// Records keeps the documents. It must not be nil.
	Records Records
	// Kind is the kind of the records.
	Kind string
	// NotFound is the error of Records for a record that is not there, as errors.Is
	// finds it. If nil, Load reports a record that vanished while it was listed as
	// one that cannot be read.
	NotFound error
	// Check returns an error if a value that was read does not belong to its key. If
	// nil, every value does.
	Check func(key string, value T) error
}

// Key makes a key of names that may hold any characters but NUL: the same names
// give the same key.
func Key(names ...string) string {
	h := sha256.Sum256([]byte(strings.Join(names, "\x00")))
	return hex.EncodeToString(h[:16])
}

// Change returns the change that puts a value.
func (s *Set[T]) Change(key string, value T) (Change, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return Change{}, fmt.Errorf("record %s/%s cannot be encoded: %w", s.Kind, key, err)
	}
	return Change{Kind: s.Kind, Key: key, Data: data}, nil
}

// Put writes a value. When it returns, the value survives what the records of the store
// survive.
func (s *Set[T]) Put(ctx context.Context, key string, value T) error {
	c, err := s.Change(key, value)
	if err != nil {
		return err
	}
	return s.Records.PutRecord(ctx, c.Kind, c.Key, c.Data)
}

// Get reads a value. The error is that of Records, or wraps [ErrDamaged]; then the
// value is zero.
func (s *Set[T]) Get(ctx context.Context, key string) (T, error) {
	var value, none T
	data, err := s.Records.Record(ctx, s.Kind, key)
	if err != nil {
		return none, err
	}
	err = json.Unmarshal(data, &value)
	if err == nil && s.Check != nil {
		err = s.Check(key, value)
	}
	if err != nil {
		return none, fmt.Errorf("record %s/%s: %w: %w", s.Kind, key, ErrDamaged, err)
	}
	return value, nil
}

// Delete deletes a value. A value that is not there is no error.
func (s *Set[T]) Delete(ctx context.Context, key string) error {
	return s.Records.DeleteRecord(ctx, s.Kind, key)
}

// Load calls each with every key that is listed, in no order and one at a time, and
// with its value or the error of Get. A record that was deleted since it was listed
// is left out. What is put or deleted meanwhile, also by each itself, may be there
// or not.
//
// Load stops when the listing fails or ctx ends, and returns why; each is not called
// with an error that the end of ctx has caused. Otherwise the error is nil, also if
// single records could not be read.
func (s *Set[T]) Load(ctx context.Context, each func(key string, value T, err error)) error {
	for key, err := range s.Records.RecordKeys(ctx, s.Kind) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("records %s cannot be listed: %w", s.Kind, err)
		}
		value, err := s.Get(ctx, key)
		switch {
		case err != nil && ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && s.NotFound != nil && errors.Is(err, s.NotFound):
		default:
			each(key, value, err)
		}
	}
	return context.Cause(ctx)
}
