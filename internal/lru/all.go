package lru

import "iter"

// All yields the entries as they were at some time since it was called, in no order, and
// counts as no use of them. No lock is held meanwhile.
func (c *Cache[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for i := range c.shards {
			for _, e := range c.shards[i].all() {
				if !yield(e.key, e.value) {
					return
				}
			}
		}
	}
}

// all returns copies of the entries.
func (s *shard[K, V]) all() []entry[K, V] {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]entry[K, V], 0, len(s.entries))
	for _, e := range s.entries {
		list = append(list, entry[K, V]{key: e.key, value: e.value})
	}
	return list
}
