package gate

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

// sightKind is the kind of the records of first sights.
const sightKind = "gate-sights"

// sight is a digest in a repository of a rule's source, and when it was seen first.
type sight struct {
	Source upstream.Source `json:"source"`
	Digest digest.Digest   `json:"digest"`
	First  time.Time       `json:"first"`
}

// key is the key of its record.
func (s sight) key() string {
	sum := sha256.Sum256([]byte(s.Source.Rule + "\x00" + s.Source.Host + "\x00" + s.Source.Repository + "\x00" + s.Digest.String()))
	return hex.EncodeToString(sum[:])
}

// sights keeps first sights, in memory and as records. Its bound is one of all rules
// together, and the rule that has most makes room, so that no rule pushes out what others
// have seen. It is safe for concurrent use.
type sights struct {
	records store.Records // may be nil
	most    int
	log     *slog.Logger

	mu    sync.Mutex
	known map[string]*list.Element // by key, of *sight
	rules map[string]*list.List    // by rule, the last that was asked for first
}

// load reads the records.
func (s *sights) load(ctx context.Context) error {
	s.known, s.rules = map[string]*list.Element{}, map[string]*list.List{}
	if s.records == nil {
		return nil
	}
	var all []sight
	var failed error
	for key, err := range s.records.RecordKeys(ctx, sightKind) {
		if err != nil {
			failed = err
			break
		}
		one, err := s.read(ctx, key)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		if one.key() == key && !one.First.IsZero() {
			all = append(all, one)
		} else { // nothing that was written here
			s.drop(ctx, key)
		}
	}
	slices.SortFunc(all, func(a, b sight) int { return a.First.Compare(b.First) })
	s.mu.Lock()
	var gone []string
	for _, one := range all {
		gone = append(gone, s.add(&one)...)
	}
	s.mu.Unlock()
	for _, key := range gone {
		s.drop(ctx, key)
	}
	return failed
}

// read reads a record. One that cannot be parsed, or is gone, is the zero sight.
func (s *sights) read(ctx context.Context, key string) (one sight, err error) {
	data, err := s.records.Record(ctx, sightKind, key)
	if errors.Is(err, store.ErrNotFound) {
		return sight{}, nil
	}
	if err != nil {
		return sight{}, err
	}
	if json.Unmarshal(data, &one) != nil {
		return sight{}, nil
	}
	return one, nil
}

// see returns when a digest was seen first, which is now if it never was. That is written
// down before see returns.
func (s *sights) see(ctx context.Context, one sight, now time.Time) time.Time {
	key := one.key()
	s.mu.Lock()
	if e := s.known[key]; e != nil {
		s.rules[one.Source.Rule].MoveToFront(e)
		known := e.Value.(*sight)
		if !known.First.After(now) {
			defer s.mu.Unlock()
			return known.First
		}
		known.First = now // a clock was wrong
		one = *known
		s.mu.Unlock()
		s.write(ctx, key, one)
		return now
	}
	one.First = now
	gone := s.add(&one)
	s.mu.Unlock()
	s.write(ctx, key, one)
	for _, key := range gone {
		s.drop(ctx, key)
	}
	return now
}

// add adds a sight that is not known. It returns the keys of those that were forgotten for
// it. s.mu is held.
func (s *sights) add(one *sight) (gone []string) {
	l := s.rules[one.Source.Rule]
	if l == nil {
		l = list.New()
		s.rules[one.Source.Rule] = l
	}
	s.known[one.key()] = l.PushFront(one)
	for len(s.known) > s.most {
		most := l
		for _, other := range s.rules {
			if other.Len() > most.Len() {
				most = other
			}
		}
		last := most.Remove(most.Back()).(*sight)
		if most.Len() == 0 {
			delete(s.rules, last.Source.Rule)
		}
		delete(s.known, last.key())
		gone = append(gone, last.key())
	}
	return gone
}

// write writes a record. If that fails, the next process sees the digest anew.
func (s *sights) write(ctx context.Context, key string, one sight) {
	if s.records == nil {
		return
	}
	data, err := json.Marshal(one)
	if err == nil {
		err = s.records.PutRecord(context.WithoutCancel(ctx), sightKind, key, data)
	}
	if err != nil {
		s.log.Error("when an image was seen first cannot be written down; a restart would hold it anew",
			"rule", one.Source.Rule, "source", one.Source.String(), "digest", one.Digest.String(), "error", err)
	}
}

// drop deletes a record.
func (s *sights) drop(ctx context.Context, key string) {
	if s.records == nil {
		return
	}
	if err := s.records.DeleteRecord(context.WithoutCancel(ctx), sightKind, key); err != nil {
		s.log.Warn("an old sight of an image cannot be deleted", "error", err)
	}
}
