package cache

import (
	"bytes"
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash/fnv"
	"strings"
	"sync"
	"time"

	"github.com/pullthrough/pullthrough/store"
)

const (
	// shelfEntry is what an entry costs beside its data.
	shelfEntry = 256
	// shelfRewrite is how old the time of a record may be of what did not change.
	shelfRewrite = 10 * time.Minute
)

// shelf keeps small things for as long as there is room for them: as records, if
// the store has any, so that they outlive the process, and in memory otherwise.
// What was used least recently makes room. It is safe for concurrent use.
type shelf struct {
	kind  string
	store store.Records // nil if the entries are in memory
	most  int64         // bytes in all; nothing is kept if negative

	order [16]sync.Mutex // by key: held while its record is written, so that the last one counts

	mu      sync.Mutex
	entries map[string]*list.Element // of *shelved
	used    list.List                // the latest first
	bytes   int64
}

// shelved is one entry of a shelf.
type shelved struct {
	key     string
	size    int64
	sum     [sha256.Size]byte // of the data
	stamp   time.Time         // when it was put; zero if only its record says it
	written time.Time         // the time in its record; zero if that is not known
	data    []byte            // nil if it is a record
}

// shelfRecord is an entry as a record.
type shelfRecord struct {
	Stamp time.Time       `json:"stamp"`
	Data  json.RawMessage `json:"data"`
}

func newShelf(kind string, records store.Records, most int64) *shelf {
	return &shelf{kind: kind, store: records, most: most, entries: map[string]*list.Element{}}
}

// shelfKey makes a key of what tells one thing from another.
func shelfKey(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		_, _ = h.Write([]byte(p))
		_, _ = h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:20])
}

// load counts what a former process left.
func (s *shelf) load(ctx context.Context) {
	if s.store == nil {
		return
	}
	for key, err := range s.store.RecordKeys(ctx, s.kind) {
		if err != nil {
			return
		}
		data, err := s.store.Record(ctx, s.kind, key)
		if err != nil {
			continue
		}
		s.mu.Lock()
		if s.entries[key] == nil { // else it is newer
			s.entries[key] = s.used.PushBack(&shelved{key: key, size: int64(len(data))})
			s.bytes += int64(len(data)) + shelfEntry
		}
		gone := s.crowded()
		s.mu.Unlock()
		s.forget(ctx, gone)
	}
}

// has reports whether there is something for a key, as far as it was counted.
func (s *shelf) has(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.entries[key] != nil
}

// get returns what was put for a key, and when.
func (s *shelf) get(ctx context.Context, key string) (data []byte, stamp time.Time, ok bool) {
	s.mu.Lock()
	e := s.entries[key]
	if e != nil {
		s.used.MoveToFront(e)
		v := e.Value.(*shelved)
		data, stamp = v.data, v.stamp
	}
	s.mu.Unlock()
	if data != nil || s.store == nil {
		return data, stamp, data != nil
	}
	raw, err := s.store.Record(ctx, s.kind, key)
	var r shelfRecord
	if err != nil || json.Unmarshal(raw, &r) != nil {
		return nil, time.Time{}, false
	}
	if r.Stamp.After(stamp) {
		stamp = r.Stamp
	}
	return r.Data, stamp, true
}

// put keeps data, which is JSON, for a key as of a time. What is too large for the
// shelf is not kept, and what did not change is not written again for a while.
func (s *shelf) put(ctx context.Context, key string, data []byte, stamp time.Time) {
	s.putUnless(ctx, key, data, stamp, func() bool { return false })
}

// putUnless is put, unless the data is needless by then. A dropKnown that comes after
// needless has turned true leaves nothing of the key.
func (s *shelf) putUnless(ctx context.Context, key string, data []byte, stamp time.Time, needless func() bool) {
	gone := s.putInOrder(ctx, key, data, stamp, needless)
	s.forget(ctx, gone)
}

// putInOrder is putUnless, and returns the keys that make room.
func (s *shelf) putInOrder(ctx context.Context, key string, data []byte, stamp time.Time, needless func() bool) (gone []string) {
	defer s.inOrder(key).Unlock()
	if needless() {
		return nil
	}
	v := &shelved{key: key, size: int64(len(data)), sum: sha256.Sum256(data), stamp: stamp.UTC()}
	if v.size+shelfEntry > s.most {
		s.dropInOrder(ctx, key)
		return nil
	}
	if s.store == nil {
		v.data = bytes.Clone(data)
	}
	s.mu.Lock()
	write := s.store != nil
	if e := s.entries[key]; e != nil {
		old := e.Value.(*shelved)
		if old.sum == v.sum && v.stamp.Sub(old.written) < shelfRewrite {
			v.written, write = old.written, false
		}
		s.remove(e)
	}
	if write {
		v.written = v.stamp
	}
	s.add(v)
	gone = s.crowded()
	s.mu.Unlock()
	if write {
		raw, err := json.Marshal(shelfRecord{v.stamp, data})
		if err == nil {
			err = s.store.PutRecord(ctx, s.kind, key, raw)
		}
		if err != nil { // what cannot be kept is not here
			s.dropInOrder(ctx, key)
		}
	}
	return gone
}

// inOrder locks what orders the writes of a key, and returns it.
func (s *shelf) inOrder(key string) *sync.Mutex {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key))
	mu := &s.order[h.Sum32()%uint32(len(s.order))]
	mu.Lock()
	return mu
}

// drop forgets a key.
func (s *shelf) drop(ctx context.Context, key string) {
	defer s.inOrder(key).Unlock()
	s.dropInOrder(ctx, key)
}

// dropKnown forgets a key if there is something for it, as far as it was counted.
func (s *shelf) dropKnown(ctx context.Context, key string) {
	defer s.inOrder(key).Unlock()
	if s.has(key) {
		s.dropInOrder(ctx, key)
	}
}

// dropAll forgets the keys that begin with a prefix, as far as they were counted.
func (s *shelf) dropAll(ctx context.Context, prefix string) {
	var keys []string
	s.mu.Lock()
	for key := range s.entries {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	s.mu.Unlock()
	for _, key := range keys {
		s.drop(ctx, key)
	}
}

// dropInOrder is drop with the order of the key held.
func (s *shelf) dropInOrder(ctx context.Context, key string) {
	s.mu.Lock()
	if e := s.entries[key]; e != nil {
		s.remove(e)
	}
	s.mu.Unlock()
	if s.store != nil {
		_ = s.store.DeleteRecord(ctx, s.kind, key) // one that stays is found at the next start
	}
}

// forget deletes the records of keys that made room, unless they were put again.
func (s *shelf) forget(ctx context.Context, keys []string) {
	for _, key := range keys {
		mu := s.inOrder(key)
		if !s.has(key) {
			s.dropInOrder(ctx, key)
		}
		mu.Unlock()
	}
}

// add puts an entry in front. s.mu is held.
func (s *shelf) add(v *shelved) {
	s.entries[v.key] = s.used.PushFront(v)
	s.bytes += v.size + shelfEntry
}

// remove takes an entry out. s.mu is held.
func (s *shelf) remove(e *list.Element) {
	v := s.used.Remove(e).(*shelved)
	delete(s.entries, v.key)
	s.bytes -= v.size + shelfEntry
}

// crowded takes out what makes room, and returns its keys. s.mu is held.
func (s *shelf) crowded() (keys []string) {
	for s.bytes > s.most && s.used.Len() > 0 {
		e := s.used.Back()
		keys = append(keys, e.Value.(*shelved).key)
		s.remove(e)
	}
	return keys
}
