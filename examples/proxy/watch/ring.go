package watch

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pullthrough/pullthrough/cache"
)

// Pull is one request that ended.
type Pull struct {
	Time       time.Time        `json:"time"` // when it ended
	Client     string           `json:"client,omitempty"`
	Method     string           `json:"method"`
	Kind       cache.AccessKind `json:"kind"`
	Rule       string           `json:"rule,omitempty"` // empty if none covers the repository
	Repository string           `json:"repository"`
	Reference  string           `json:"reference"`
	Status     int              `json:"status"` // zero if the connection ended before a header
	Bytes      int64            `json:"bytes"`
	Outcome    Outcome          `json:"outcome"`
	Result     cache.Result     `json:"result,omitempty"`
	Detail     string           `json:"detail,omitempty"`
	// UpstreamStatus is the status of the upstream's answer, or zero if there was none.
	UpstreamStatus int           `json:"upstreamStatus,omitempty"`
	Duration       time.Duration `json:"duration"`  // in nanoseconds
	FirstByte      time.Duration `json:"firstByte"` // until the header
	// Why says in a sentence why the client got what it got.
	Why string `json:"why"`
	// Error is what went wrong, as the log has it; empty if nothing did.
	Error string `json:"error,omitempty"`
}

// The bounds of texts, in bytes.
const (
	maxName = 256
	maxText = 512
)

// cut is a text of bounded length, which does not keep a longer one alive.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// Kind sorts pulls, so that many of one kind do not push those of another out.
type Kind int

// The kinds.
const (
	Images    Kind = iota // manifests and lists
	Blobs                 // configs and layers
	Strangers             // what no rule covers, and what needs another client
	kinds
)

// kindOf sorts a pull.
func kindOf(p Pull) Kind {
	switch {
	case p.Rule == "", p.Status == 401, p.Status == 403, p.Status == 429:
		return Strangers
	case p.Kind == cache.AccessBlob:
		return Blobs
	}
	return Images
}

// Filter selects pulls. The zero value selects all manifests and lists.
type Filter struct {
	Kinds   []Kind // If nil, Images.
	Rule    string // If empty, any.
	Trouble bool   // Only those that are Stale, Refused or Failed.
	Most    int    // If zero, no more than the Recorder has.
}

// Pulls returns the recent pulls that a filter selects, the newest first.
func (r *Recorder) Pulls(f Filter) []Pull {
	r.init()
	if f.Kinds == nil {
		f.Kinds = []Kind{Images}
	}
	var found []Pull
	for _, k := range f.Kinds {
		if k < 0 || k >= kinds {
			continue
		}
		for _, p := range r.rings[k].list() {
			if (f.Rule == "" || f.Rule == p.Rule) && (!f.Trouble || p.trouble()) {
				found = append(found, p)
			}
		}
	}
	slices.SortStableFunc(found, func(a, b Pull) int { return b.Time.Compare(a.Time) })
	if f.Most > 0 && len(found) > f.Most {
		found = found[:f.Most]
	}
	for i := range found {
		found[i].Why = found[i].why()
	}
	return found
}

// trouble reports whether an operator should look at a pull.
func (p *Pull) trouble() bool {
	return p.Outcome == Stale || p.Outcome == Refused || p.Outcome == Failed
}

// ring holds the last pulls of a kind. Writers meet at a slot only.
type ring struct {
	next  atomic.Uint64
	slots []slot
}

type slot struct {
	mu   sync.Mutex
	turn uint64 // counts from 1; zero if the slot is empty
	pull Pull
}

func newRing(n int) *ring { return &ring{slots: make([]slot, n)} }

// add overwrites the oldest pull. It allocates nothing.
func (r *ring) add(p *Pull) {
	turn := r.next.Add(1)
	s := &r.slots[turn%uint64(len(r.slots))]
	s.mu.Lock()
	defer s.mu.Unlock()
	if turn > s.turn { // a writer that was overtaken by a whole round gives way
		s.turn, s.pull = turn, *p
	}
}

// list returns what there is, the newest first.
func (r *ring) list() []Pull {
	type entry struct {
		turn uint64
		pull Pull
	}
	var found []entry
	for i := range r.slots {
		s := &r.slots[i]
		s.mu.Lock()
		if s.turn != 0 {
			found = append(found, entry{s.turn, s.pull})
		}
		s.mu.Unlock()
	}
	slices.SortFunc(found, func(a, b entry) int {
		if a.turn > b.turn {
			return -1
		}
		return 1
	})
	pulls := make([]Pull, len(found))
	for i, e := range found {
		pulls[i] = e.pull
	}
	return pulls
}
