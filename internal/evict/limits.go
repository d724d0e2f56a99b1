package evict

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// Limits say how much may stay. The zero value limits nothing.
type Limits struct {
	// Bytes bounds all images together.
	Bytes Bound
	// Rules bounds the images of a rule, by its name. The images of other rules are not
	// given up for it.
	Rules map[string]Bound
	// Free is how many bytes must be freed, whatever the sizes are, because others use
	// the disk too.
	Free int64
	// Age is how long an image may stay without a use. If zero, it may stay for ever.
	Age time.Duration
}

// Bound is a limit of a number of bytes. What is beyond High is brought down to Low, so
// that not every new image costs a plan.
type Bound struct {
	// High is the most that may stay. If zero, there is no limit.
	High int64
	// Low is what a plan goes down to. If zero, or more than High, it is 31/32 of High.
	Low int64
}

func (b Bound) low() int64 {
	if b.Low > 0 && b.Low <= b.High {
		return b.Low
	}
	return b.High - b.High/32
}

// Plan says what to give up.
type Plan struct {
	// Steps are what goes, in order.
	Steps []Step
	// Images is the number of images that go, Left of those that stay.
	Images, Left int
	// Freed is the number of bytes that no image names any more after all steps.
	Freed int64
	// Unmet are the limits that cannot be met, because all that is left is pinned, or
	// holds something that is.
	Unmet []Unmet
}

// Step is what goes together: a part of a step that stayed would be of no use. Its images
// are in an order in which each may be deleted on its own: children before their index,
// referrers before their subject.
type Step struct {
	Reason Reason
	Images []Victim
	// Freed is the number of bytes that no image names any more after the step.
	Freed int64
}

// Victim is an image that goes.
type Victim struct {
	Rule, Repository string
	Digest           digest.Digest
	Use              Use
}

// Reason is the limit because of which a step is taken.
type Reason string

// The limits.
const (
	ReasonAge   Reason = "age"
	ReasonRule  Reason = "rule"
	ReasonBytes Reason = "bytes"
	ReasonFree  Reason = "free"
)

// Unmet is a limit that a plan does not meet.
type Unmet struct {
	Reason Reason
	Rule   string // of ReasonRule
	Bytes  int64  // how many would have to go, beside those that do
}

// Plan returns what to give up so that the limits are met, and no more. The same images
// in any order give the same plan. It does not change the Graph.
func (g *Graph) Plan(limits Limits, now time.Time) Plan {
	p := &planner{g: g, family: newFamily(g), sums: newSums(g), hour: hour(now)}
	p.charges = p.sums.charges()
	p.standings = make([]standing, len(g.nodes))
	if limits.Age > 0 {
		p.age(limits.Age)
	}
	p.eachRule(limits.Rules)
	p.all(limits)
	p.plan.Left = len(g.nodes) - p.plan.Images
	return p.plan
}

// planner is a plan while it grows.
type planner struct {
	g       *Graph
	family  *family
	sums    *sums
	charges []int64
	hour    uint32
	// standings is by node, for the chooser that is in use.
	standings []standing
	plan      Plan
}

// eachRule brings each rule below its limit.
func (p *planner) eachRule(bounds map[string]Bound) {
	over := map[uint32][]int32{}
	for id, rule := range p.g.rules.list {
		if b := bounds[rule]; b.High > 0 && p.sums.rules[id] > b.High {
			over[uint32(id)] = nil
		}
	}
	if len(over) == 0 {
		return
	}
	for i := range p.g.nodes {
		if of, ok := over[p.g.nodes[i].rule]; ok {
			over[p.g.nodes[i].rule] = append(of, int32(i))
		}
	}
	ids := make([]uint32, 0, len(over))
	for id := range over {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b uint32) int { return strings.Compare(p.g.rules.list[a], p.g.rules.list[b]) })
	for _, id := range ids {
		b := bounds[p.g.rules.list[id]]
		if p.sums.rules[id] <= b.High { // a step of another rule has freed it
			continue
		}
		c := newChooser(p, over[id], b.High)
		for p.sums.rules[id] > b.low() && p.take(c, ReasonRule) {
		}
		if left := p.sums.rules[id] - b.High; left > 0 {
			p.plan.Unmet = append(p.plan.Unmet, Unmet{ReasonRule, p.g.rules.list[id], left})
		}
	}
}

// all brings the whole below its limit, and frees what must be free.
func (p *planner) all(limits Limits) {
	bytes := limits.Bytes.High > 0 && p.sums.bytes > limits.Bytes.High
	if !bytes && p.plan.Freed >= limits.Free {
		return
	}
	nodes := make([]int32, len(p.g.nodes))
	for i := range nodes {
		nodes[i] = int32(i)
	}
	space := limits.Bytes.High
	if space == 0 {
		space = p.sums.bytes
	}
	c := newChooser(p, nodes, space)
	for bytes && p.sums.bytes > limits.Bytes.low() && p.take(c, ReasonBytes) {
	}
	for p.plan.Freed < limits.Free && p.take(c, ReasonFree) {
	}
	if left := p.sums.bytes - limits.Bytes.High; bytes && left > 0 {
		p.plan.Unmet = append(p.plan.Unmet, Unmet{Reason: ReasonBytes, Bytes: left})
	}
	if left := limits.Free - p.plan.Freed; left > 0 {
		p.plan.Unmet = append(p.plan.Unmet, Unmet{Reason: ReasonFree, Bytes: left})
	}
}

// take adds a step with what c chooses. It returns false if there is nothing left.
func (p *planner) take(c *chooser, reason Reason) bool {
	unit := c.next()
	if unit == nil {
		return false
	}
	p.step(unit, reason, c.add)
	return true
}

// step adds a step. It calls freed with each index that may go by that.
func (p *planner) step(unit []int32, reason Reason, freed func(i int32)) {
	s := Step{Reason: reason, Images: make([]Victim, 0, len(unit))}
	for _, i := range unit {
		n := &p.g.nodes[i]
		s.Images = append(s.Images, Victim{p.g.rules.list[n.rule], p.g.repos.list[n.repo], n.digest, n.use})
		s.Freed += p.sums.remove(i)
		p.family.remove(i, freed)
	}
	p.plan.Freed += s.Freed
	p.plan.Images += len(unit)
	p.plan.Steps = append(p.plan.Steps, s)
}

// String says in words what is not met.
func (u Unmet) String() string {
	if u.Reason == ReasonRule {
		return fmt.Sprintf("%d bytes of the rule %q are beyond its limit and must stay", u.Bytes, u.Rule)
	}
	return fmt.Sprintf("%d bytes more should go for the limit %q and must stay", u.Bytes, string(u.Reason))
}
