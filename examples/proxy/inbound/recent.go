package inbound

import "sync"

// recent remembers values by key, the last ones that were used. What strangers can
// make grow is kept in one of these. The zero value remembers nothing: set most. It is safe
// for concurrent use.
type recent[K comparable, V any] struct {
	most int // entries in each of two generations

	mu       sync.Mutex
	new, old map[K]V
}

// get returns the value of a key.
func (r *recent[K, V]) get(key K) (V, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.find(key)
}

// put sets the value of a key.
func (r *recent[K, V]) put(key K, value V) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.set(key, value)
}

// change replaces the value of a key, which is the zero value if it is not known, by what f
// makes of it. f runs under a lock.
func (r *recent[K, V]) change(key K, f func(V) V) {
	r.mu.Lock()
	defer r.mu.Unlock()
	value, _ := r.find(key)
	r.set(key, f(value))
}

// find is get with r.mu held.
func (r *recent[K, V]) find(key K) (V, bool) {
	if value, ok := r.new[key]; ok {
		return value, true
	}
	value, ok := r.old[key]
	if ok {
		r.set(key, value)
	}
	return value, ok
}

// set is put with r.mu held.
func (r *recent[K, V]) set(key K, value V) {
	if _, known := r.new[key]; !known && len(r.new) >= r.most {
		r.old, r.new = r.new, nil
	}
	if r.most <= 0 {
		return
	}
	if r.new == nil {
		r.new = make(map[K]V)
	}
	r.new[key] = value
}
