package watch

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Counts is how many requests had which outcome, and the bytes that were sent to clients.
type Counts struct {
	Outcomes map[Outcome]int64 `json:"outcomes"` // those that are not zero
	Bytes    int64             `json:"bytes"`
}

// Requests is how many requests there were.
func (c Counts) Requests() (n int64) {
	for _, one := range c.Outcomes {
		n += one
	}
	return n
}

// HitRatio is how much of what could have come from here did. It is false if there was
// nothing.
func (c Counts) HitRatio() (float64, bool) {
	return ratio(c.Outcomes[Hit]+c.Outcomes[Checked]+c.Outcomes[Stale], c.Outcomes[Miss])
}

func ratio(stored, missed int64) (float64, bool) {
	if stored+missed == 0 {
		return 0, false
	}
	return float64(stored) / float64(stored+missed), true
}

// RuleState is what is known of the pulls of one rule.
type RuleState struct {
	Rule string `json:"rule"` // [Other], or empty for what no rule covers
	Counts
	LastPull time.Time `json:"lastPull,omitzero"`
	// Trouble is the last pull that was stale, refused or failed; nil if there was none.
	Trouble *Pull `json:"trouble,omitempty"`
}

// Rules returns the state of each rule that was pulled by, sorted by name.
func (r *Recorder) Rules() []RuleState {
	r.init()
	known := r.rules.known()
	states := make([]RuleState, 0, len(known))
	for name, c := range known {
		states = append(states, c.state(name))
	}
	slices.SortFunc(states, func(a, b RuleState) int { return strings.Compare(a.Rule, b.Rule) })
	return states
}

// Rule returns the state of one rule. It is false if nothing was pulled by it, or if it
// counts as [Other].
func (r *Recorder) Rule(name string) (RuleState, bool) {
	r.init()
	c, ok := r.rules.known()[name]
	if !ok {
		return RuleState{Rule: name}, false
	}
	return c.state(name), true
}

// Totals returns the counts of all rules together.
func (r *Recorder) Totals() Counts {
	r.init()
	sum := Counts{Outcomes: map[Outcome]int64{}}
	for _, c := range r.rules.known() {
		one := c.counts()
		sum.Bytes += one.Bytes
		for out, n := range one.Outcomes {
			sum.Outcomes[out] += n
		}
	}
	return sum
}

// ruleTable finds the counters of a rule. A rule that is known is found without a lock.
type ruleTable struct {
	most  int
	mu    sync.Mutex // for writers
	table atomic.Pointer[map[string]*ruleCounters]
}

func (t *ruleTable) known() map[string]*ruleCounters {
	if m := t.table.Load(); m != nil {
		return *m
	}
	return nil
}

// of returns the counters of a rule.
func (t *ruleTable) of(name string) *ruleCounters {
	if c := t.known()[name]; c != nil {
		return c
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	known := t.known()
	if c := known[name]; c != nil {
		return c
	}
	named := len(known)
	if known[""] != nil {
		named--
	}
	if name = strings.Clone(name); name != "" && named >= t.most {
		name = Other
		if c := known[name]; c != nil {
			return c
		}
	}
	next := maps.Clone(known)
	if next == nil {
		next = map[string]*ruleCounters{}
	}
	c := &ruleCounters{}
	next[name] = c
	t.table.Store(&next)
	return c
}

// ruleCounters counts the pulls of one rule.
type ruleCounters struct {
	outcomes [outcomes]atomic.Int64
	bytes    atomic.Int64
	last     atomic.Int64         // when something was pulled last, in Unix nanoseconds
	trouble  atomic.Pointer[Pull] // the last one
}

func (c *ruleCounters) add(outcome int, bytes int64) {
	c.outcomes[outcome].Add(1)
	c.bytes.Add(bytes)
}

// note remembers when the last pull was, and the last one in trouble.
func (c *ruleCounters) note(p *Pull) {
	c.last.Store(p.Time.UnixNano())
	if p.trouble() {
		kept := *p
		c.trouble.Store(&kept)
	}
}

func (c *ruleCounters) counts() Counts {
	n := Counts{Outcomes: map[Outcome]int64{}, Bytes: c.bytes.Load()}
	for i := range c.outcomes {
		if one := c.outcomes[i].Load(); one != 0 {
			n.Outcomes[all[i]] = one
		}
	}
	return n
}

func (c *ruleCounters) state(name string) RuleState {
	s := RuleState{Rule: name, Counts: c.counts()}
	if at := c.last.Load(); at != 0 {
		s.LastPull = time.Unix(0, at)
	}
	if p := c.trouble.Load(); p != nil {
		kept := *p
		kept.Why = kept.why()
		s.Trouble = &kept
	}
	return s
}
