package origin

import (
	"hash/maphash"
	"sync/atomic"

	"github.com/pullthrough/pullthrough/rule"
)

// recentSize is how many matches recent remembers. It is a power of two.
const recentSize = 1024

// recent finds what was opened for a match that was met a moment ago, without a lock and
// without a look at the names in it: a match is known by its address. One that is
// forgotten is found by its source.
type recent struct {
	seed  maphash.Seed
	slots [recentSize]atomic.Pointer[opened]
}

func (r *recent) slot(m *rule.Match) *atomic.Pointer[opened] {
	return &r.slots[maphash.Comparable(r.seed, m)%recentSize]
}

func (r *recent) get(m *rule.Match) *opened {
	if o := r.slot(m).Load(); o != nil && o.match == m {
		return o
	}
	return nil
}

// put remembers o for m, which may be another match of the same source.
func (r *recent) put(m *rule.Match, o *opened) {
	if o.match != m {
		o = &opened{match: m, generation: o.generation, upstream: o.upstream, from: o.from}
	}
	r.slot(m).Store(o)
}
