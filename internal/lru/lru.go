// Package lru is a bounded map that forgets the entries that were used least recently.
// It is split into shards, each with its own lock.
package lru

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

const shardCount = 16

// Cache is a bounded map. The zero value holds nothing; use [New]. It is safe
// for concurrent use.
type Cache[K comparable, V any] struct {
	seed   maphash.Seed
	count  atomic.Int64 // of entries, changed with the lock of their shard held
	shards [shardCount]shard[K, V]
}

// New returns a map whose entries cost about max in all at most. Each shard has an
// equal part of max.
func New[K comparable, V any](max int64) *Cache[K, V] {
	c := &Cache[K, V]{seed: maphash.MakeSeed()}
	for i := range c.shards {
		s := &c.shards[i]
		s.max = (max + shardCount - 1) / shardCount
		s.entries = map[K]*entry[K, V]{}
		s.root.newer, s.root.older = &s.root, &s.root
	}
	return c
}

type shard[K comparable, V any] struct {
	mu      sync.Mutex
	entries map[K]*entry[K, V]
	root    entry[K, V] // root.older is the newest, root.newer the oldest
	cost    int64
	max     int64
}

type entry[K comparable, V any] struct {
	key          K
	value        V
	cost         int64
	newer, older *entry[K, V]
}

func (c *Cache[K, V]) shard(k K) *shard[K, V] {
	return &c.shards[maphash.Comparable(c.seed, k)%shardCount]
}

// Empty reports whether there are no entries. It takes no lock.
func (c *Cache[K, V]) Empty() bool { return c.count.Load() == 0 }

// Get returns the value of k, and counts as a use of it.
func (c *Cache[K, V]) Get(k K) (v V, ok bool) {
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[k]
	if e == nil {
		return v, false
	}
	if s.root.older != e {
		e.unlink()
		s.push(e)
	}
	return e.value, true
}

// Put sets the value of k. A value that costs more than a shard may hold is not kept.
func (c *Cache[K, V]) Put(k K, v V, cost int64) {
	c.Update(k, func(V, bool) (V, int64, bool) { return v, cost, true })
}

// Delete removes k.
func (c *Cache[K, V]) Delete(k K) {
	c.Update(k, func(v V, _ bool) (V, int64, bool) { return v, 0, false })
}

// Update replaces the value of k by what f returns, or removes it if keep is
// false. f is called with a lock held: it must be short and must not call c.
func (c *Cache[K, V]) Update(k K, f func(v V, ok bool) (value V, cost int64, keep bool)) {
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[k]
	var old V
	if e != nil {
		old = e.value
	}
	value, cost, keep := f(old, e != nil)
	before := len(s.entries)
	defer func() { c.count.Add(int64(len(s.entries) - before)) }()
	if e != nil {
		s.remove(e)
	}
	if !keep || cost > s.max {
		return
	}
	e = &entry[K, V]{key: k, value: value, cost: cost}
	s.entries[k] = e
	s.cost += cost
	s.push(e)
	for s.cost > s.max {
		s.remove(s.root.newer)
	}
}

// Len returns the number of entries.
func (c *Cache[K, V]) Len() (n int) {
	for i := range c.shards {
		c.shards[i].mu.Lock()
		n += len(c.shards[i].entries)
		c.shards[i].mu.Unlock()
	}
	return n
}

func (s *shard[K, V]) remove(e *entry[K, V]) {
	e.unlink()
	delete(s.entries, e.key)
	s.cost -= e.cost
}

func (s *shard[K, V]) push(e *entry[K, V]) {
	e.newer, e.older = &s.root, s.root.older
	e.older.newer, s.root.older = e, e
}

func (e *entry[K, V]) unlink() {
	e.newer.older, e.older.newer = e.older, e.newer
}
