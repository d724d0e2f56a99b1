package evict

import (
	"cmp"
	"strings"
)

// class is how an image stands. A unit has the highest class of its images.
type class uint8

const (
	misfit    class = iota // larger than the space: it goes first, or all else would go for it
	probation              // never used again
	proven                 // used again
	newest                 // stored last: it goes when all else has gone
)

// probationShare is the part of the space that images on probation have for certain: an
// eighth.
const probationShare = 8

// standing is how an image stands among those that may go. cold is its
// [Use.coldness].
type standing struct {
	class class
	cold  int32
}

// with is how two images stand that go together: as the better one does. With a misfit
// they do not fit either.
func (s standing) with(t standing) standing {
	u := standing{max(s.class, t.class), min(s.cold, t.cold)}
	if min(s.class, t.class) == misfit {
		u.class = misfit
	}
	return u
}

// candidate is an image that may go, as it stood when it was queued.
type candidate struct {
	node int32
	standing
}

// chooser chooses what goes next, among the images of one rule or of all.
type chooser struct {
	p       *planner
	share   int64                       // bytes that images on probation have for certain
	queues  [newest + 1]heap[candidate] // by class
	rules   map[uint32]*onProbation
	largest heap[ruleBytes]
	bytes   int64 // of images on probation
}

// onProbation are the images of a rule that are on probation.
type onProbation struct {
	queue heap[candidate]
	bytes int64
}

// ruleBytes is a rule and its bytes on probation, as they were when it was queued.
type ruleBytes struct {
	rule  uint32
	bytes int64
}

// newChooser returns a chooser among nodes, to which space belongs. There is one at a
// time.
func newChooser(p *planner, nodes []int32, space int64) *chooser {
	c := &chooser{p: p, share: space / probationShare, rules: map[uint32]*onProbation{}}
	for i := range c.queues {
		c.queues[i].before, c.queues[i].good = c.before, c.good
	}
	c.largest.good = func(r ruleBytes) bool { _, ok := c.rules[r.rule].queue.top(); return ok }
	c.largest.before = func(a, b ruleBytes) bool {
		if a.bytes != b.bytes {
			return a.bytes > b.bytes
		}
		return p.g.rules.list[a.rule] < p.g.rules.list[b.rule]
	}
	spared := p.newest(nodes, c.share)
	for _, i := range nodes {
		p.standings[i] = p.standing(i)
		switch {
		case p.charges[i] > space:
			p.standings[i].class = misfit
		case spared[i]:
			p.standings[i].class = newest
		}
	}
	for _, i := range nodes {
		if p.standings[i].class == probation && !p.family.pinned[i] && !p.family.gone[i] {
			c.count(i, p.charges[i])
		}
		if p.family.free(i) {
			c.enqueue(i, (*heap[candidate]).add)
		}
	}
	for i := range c.queues {
		c.queues[i].fill()
	}
	for id, r := range c.rules {
		r.queue.fill()
		c.largest.push(ruleBytes{id, r.bytes})
	}
	return c
}

// newest returns the image among nodes that was stored last, and what that names and
// refers to, unless it takes more than most. It is spared, so that a plan that is made
// because an image was stored does not end with that image gone.
func (p *planner) newest(nodes []int32, most int64) map[int32]bool {
	last := int32(-1)
	for _, i := range nodes {
		if !p.family.gone[i] && !p.family.pinned[i] && (last < 0 || p.storedLater(i, last)) {
			last = i
		}
	}
	if last < 0 {
		return nil
	}
	set, bytes := map[int32]bool{}, int64(0)
	for todo := []int32{last}; len(todo) > 0; {
		i := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if set[i] || p.family.gone[i] {
			continue
		}
		set[i] = true
		bytes += p.charges[i]
		todo = append(todo, p.family.children.of(i)...)
		n := &p.g.nodes[i]
		if subject, ok := p.g.byName[nodeName{n.repo, n.subject}]; ok && n.hasSubject {
			todo = append(todo, subject)
		}
	}
	if bytes > most {
		return nil
	}
	return set
}

func (p *planner) storedLater(i, j int32) bool {
	if a, b := p.g.nodes[i].stored, p.g.nodes[j].stored; a != b {
		return a > b
	}
	return p.compareNames(i, j) > 0
}

func (p *planner) compareNames(i, j int32) int {
	a, b := &p.g.nodes[i], &p.g.nodes[j]
	return cmp.Or(strings.Compare(p.g.repos.list[a.repo], p.g.repos.list[b.repo]), strings.Compare(string(a.digest), string(b.digest)))
}

// standing is how an image stands by its own use.
func (p *planner) standing(i int32) standing {
	u := p.g.nodes[i].use
	s := standing{probation, u.coldness(p.hour)}
	if u.again() > 0 {
		s.class = proven
	}
	return s
}

// before is the order in which candidates of a class go: one that alone takes more than
// the share before the many that would have to go for it; then the coldest, of those the
// largest, and of those the one stored first.
func (c *chooser) before(a, b candidate) bool {
	p := c.p
	x, y := p.charges[a.node], p.charges[b.node]
	if p, q := x > c.share, y > c.share; p != q && a.class == probation && b.class == probation {
		return p
	}
	if a.cold != b.cold {
		return a.cold > b.cold
	}
	if a.class == proven && x != y {
		return x > y
	}
	if s, t := p.g.nodes[a.node].stored, p.g.nodes[b.node].stored; s != t {
		return s < t
	}
	return p.compareNames(a.node, b.node) < 0
}

// good reports whether a candidate still stands as it did when it was queued.
func (c *chooser) good(e candidate) bool {
	return c.p.family.free(e.node) && c.p.standings[e.node] == e.standing
}

// count adds to the bytes on probation.
func (c *chooser) count(i int32, bytes int64) {
	id := c.p.g.nodes[i].rule
	r := c.rules[id]
	if r == nil {
		r = &onProbation{queue: heap[candidate]{before: c.before, good: c.good}}
		c.rules[id] = r
	}
	r.bytes += bytes
	c.bytes += bytes
}

// add queues an index that is free since a step was taken.
func (c *chooser) add(i int32) {
	c.enqueue(i, (*heap[candidate]).push)
	if c.p.standings[i].class == probation {
		id := c.p.g.nodes[i].rule
		c.largest.push(ruleBytes{id, c.rules[id].bytes})
	}
}

func (c *chooser) enqueue(i int32, put func(q *heap[candidate], e candidate)) {
	e := candidate{i, c.p.standings[i]}
	put(&c.queues[e.class], e)
	if e.class == probation {
		put(&c.rules[c.p.g.nodes[i].rule].queue, e)
	}
}

// next returns what goes next, or nil if nothing may. It is valid until the next call.
func (c *chooser) next() []int32 {
	for {
		e, ok := c.coldest()
		if !ok {
			return nil
		}
		unit := c.p.family.unit(e.node)
		s := e.standing
		for _, i := range unit {
			s = s.with(c.p.standings[i])
		}
		if s == e.standing {
			for _, i := range unit {
				c.leave(i)
			}
			return unit
		}
		if s.class != probation {
			c.leave(e.node)
		}
		c.p.standings[e.node] = s
		c.enqueue(e.node, (*heap[candidate]).push)
	}
}

// leave takes an image out of the bytes on probation.
func (c *chooser) leave(i int32) {
	if c.p.standings[i].class == probation {
		c.count(i, -c.p.charges[i])
	}
}

// coldest returns the candidate that is to go: of the images on probation while they
// have more than their share, or else the coldest of all.
func (c *chooser) coldest() (candidate, bool) {
	if e, ok := c.queues[misfit].top(); ok {
		return e, true
	}
	if c.bytes > c.share {
		if e, ok := c.largestRule(); ok {
			return e, true
		}
	}
	e, ok := c.queues[probation].top()
	f, more := c.queues[proven].top()
	switch {
	case ok && (!more || e.cold >= f.cold):
		return e, true
	case more:
		return f, true
	}
	return c.queues[newest].top()
}

// largestRule returns the candidate of the rule that has most bytes on probation, so that
// the flood of one rule drives out its own images.
func (c *chooser) largestRule() (candidate, bool) {
	for {
		r, ok := c.largest.top()
		if !ok {
			return candidate{}, false
		}
		of := c.rules[r.rule]
		if r.bytes == of.bytes {
			return of.queue.top()
		}
		c.largest.pop()
		c.largest.push(ruleBytes{r.rule, of.bytes})
	}
}
