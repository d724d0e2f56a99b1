package rule

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
)

// memoSize is how many answers a snapshot remembers, a power of two.
const memoSize = 4096

// memo remembers matches of one snapshot. It is a table with two places for
// each name; a third name with the same places takes the second. So it is
// bounded, readers and writers never wait, and what is lost is only found
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

// places returns the two slots of a name.
func (m *memo) places(host, name string) (first, second *atomic.Pointer[memory]) {
	h := maphash.String(m.seed, name)
	if host != "" {
		h ^= maphash.String(m.seed, host) * 31
	}
	return &m.slots[h%memoSize], &m.slots[h>>32%memoSize]
}

func (m *memo) get(host, name string) *Match {
	first, second := m.places(host, name)
	if e := first.Load(); e != nil && e.name == name && e.host == host {
		return e.match
	}
	if e := second.Load(); e != nil && e.name == name && e.host == host {
		return e.match
	}
	return nil
}

// put remembers a match. The texts may be parts of a request, so they are
// copied.
func (m *memo) put(host, name string, match *Match) {
	first, second := m.places(host, name)
	if name = strings.Clone(name); match.Repository == name {
		name = match.Repository
	}
	e := &memory{host: strings.Clone(host), name: name, match: match}
	if !first.CompareAndSwap(nil, e) {
		second.Store(e)
	}
}
