package ledger

import (
	"slices"

	"github.com/pullthrough/pullthrough/internal/share"
)

// turns says which job runs next. Ledger.mu guards it.
type turns struct {
	queues  map[string][]*entry // what is queued, by rule
	running map[string]int      // how many run, by rule
	serial  uint64              // of the last that was queued
}

// add lets an entry have its turn after all others of its rule, or before them: an
// index whose image has come has nothing to download.
func (t *turns) add(e *entry, first bool) {
	rule := e.job.Source.Rule
	if first {
		e.serial = 0
		t.queues[rule] = slices.Insert(t.queues[rule], 0, e)
		return
	}
	t.serial++
	e.serial = t.serial
	t.queues[rule] = append(t.queues[rule], e)
}

// next takes the entry whose turn it is out of its queue; nil if none may run. It is of
// the rule that runs fewest, and there the one that waits longest. A rule that is not
// alone leaves a quarter of the slots to others.
func (t *turns) next(slots int, alone bool) (first *entry) {
	if t.inUse() >= slots {
		return nil
	}
	for rule, queue := range t.queues {
		for len(queue) > 0 && queue[0].state != Queued { // it was removed
			queue = queue[1:]
		}
		if t.queues[rule] = queue; len(queue) == 0 {
			delete(t.queues, rule)
			continue
		}
		running := t.running[rule]
		if running >= share.Most(slots) && !alone {
			continue
		}
		if first == nil || running < t.running[first.job.Source.Rule] ||
			running == t.running[first.job.Source.Rule] && queue[0].serial < first.serial {
			first = queue[0]
		}
	}
	if first != nil {
		rule := first.job.Source.Rule
		t.queues[rule] = t.queues[rule][1:]
	}
	return first
}

// inUse is how many entries run.
func (t *turns) inUse() (n int) {
	for _, running := range t.running {
		n += running
	}
	return n
}

// took and gave count the entries that run.
func (t *turns) took(rule string) { t.running[rule]++ }

func (t *turns) gave(rule string) {
	if t.running[rule]--; t.running[rule] <= 0 {
		delete(t.running, rule)
	}
}

// waiting reports whether an entry waits for its turn.
func (t *turns) waiting() bool {
	for _, queue := range t.queues {
		if slices.ContainsFunc(queue, func(e *entry) bool { return e.state == Queued }) {
			return true
		}
	}
	return false
}
