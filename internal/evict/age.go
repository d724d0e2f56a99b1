package evict

import (
	"cmp"
	"time"
)

// old is an image that was not used for longer than it may stay.
type old struct {
	node int32
	idle int64 // hours
}

// age gives up what was not used for longer than limit, the oldest use first. What goes
// together goes when all of it is old.
func (p *planner) age(limit time.Duration) {
	hours := int64(limit / time.Hour)
	idle := func(i int32) int64 { return apart(p.hour, p.g.nodes[i].use.Hour) }
	queue := heap[old]{
		good: func(o old) bool { return p.family.free(o.node) },
		before: func(a, b old) bool {
			return cmp.Or(cmp.Compare(b.idle, a.idle), p.compareNames(a.node, b.node)) < 0
		},
	}
	add := func(i int32) {
		if idle(i) > hours {
			queue.push(old{i, idle(i)})
		}
	}
	for i := range p.g.nodes {
		if p.family.free(int32(i)) {
			add(int32(i))
		}
	}
	for {
		o, ok := queue.top()
		if !ok {
			return
		}
		queue.pop()
		unit, least := p.family.unit(o.node), o.idle
		for _, i := range unit {
			least = min(least, idle(i))
		}
		switch {
		case least == o.idle:
			p.step(unit, ReasonAge, add)
		case least > hours:
			queue.push(old{o.node, least})
		}
	}
}
