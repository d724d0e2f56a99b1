package rule

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
)

// memoSize is how many matches a snapshot remembers. It is a power of two.
const memoSize = 4096

// memo remembers matches of one snapshot. It is a table in which each name has two
// slots; when both are taken, a new name replaces that in the second. The memo is thus
// bounded, and readers and writers never wait. A match that was replaced is computed
// again.
type memo struct {
	seed  maphash.Seed
	slots []atomic.Pointer[memory]
}

type memory struct {
	host, name string // host is empty for local names
	match      *Match
}

func newMemo() memo {
	return memo{seed: maphash.MakeSeed(), slots: make([]atomic.Pointer[memory], memoSize)}
}

// slotsOf returns the two slots of a name.
func (m *memo) slotsOf(host, name string) (first, second *atomic.Pointer[memory]) {
	h := maphash.String(m.seed, name)
	if host != "" {
		h ^= maphash.String(m.seed, host) * 31
	}
	return &m.slots[h%memoSize], &m.slots[h>>32%memoSize]
}

func (m *memo) get(host, name string) *Match {
	first, second := m.slotsOf(host, name)
	if e := first.Load(); e != nil && e.name == name && e.host == host {
		return e.match
	}
	if e := second.Load(); e != nil && e.name == name && e.host == host {
		return e.match
	}
	return nil
}

// put remembers a match. host and name may share the memory of a request, so they are
// copied.
func (m *memo) put(host, name string, match *Match) {
	first, second := m.slotsOf(host, name)
	if name = strings.Clone(name); match.Repository == name {
		name = match.Repository
	}
	e := &memory{host: strings.Clone(host), name: name, match: match}
	if !first.CompareAndSwap(nil, e) {
		second.Store(e)
	}
}
