package evict_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/evict"
)

var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func name(s string) digest.Digest { return digest.FromString(s) }

// used is the use of an image that was stored, and then used at times before now.
func used(stored time.Duration, again ...time.Duration) evict.Use {
	u := evict.FirstUse(now.Add(-stored))
	for _, d := range again {
		u = u.Used(now.Add(-d))
	}
	return u
}

// key is an image of the model.
type key struct {
	repo string
	d    digest.Digest
}

// model is a naive account of images: each question is answered from the beginning.
type model struct {
	all  map[key]evict.Image
	left map[key]bool
}

func newModel(images []evict.Image) *model {
	m := &model{map[key]evict.Image{}, map[key]bool{}}
	for _, i := range images {
		m.all[key{i.Repository, i.Digest}] = i
		m.left[key{i.Repository, i.Digest}] = true
	}
	return m
}

// size sums the contents of the images that are left and wanted.
func (m *model) size(want func(i evict.Image) bool) (sum int64) {
	contents := map[digest.Digest]int64{}
	for k := range m.left {
		if i := m.all[k]; want(i) {
			contents[i.Digest] = i.Bytes
			for _, b := range i.Blobs {
				contents[b.Digest] = b.Bytes
			}
		}
	}
	for _, n := range contents {
		sum += n
	}
	return sum
}

func (m *model) bytes() int64 { return m.size(func(evict.Image) bool { return true }) }

func (m *model) ruleBytes(rule string) int64 {
	return m.size(func(i evict.Image) bool { return i.Rule == rule })
}

// children are the stored ones, whether left or not.
func (m *model) children(k key) (children []key) {
	for _, d := range m.all[k].Children {
		if _, ok := m.all[key{k.repo, d}]; ok {
			children = append(children, key{k.repo, d})
		}
	}
	return children
}

func (m *model) isPinned(k key) bool {
	for parent := range m.all {
		if slices.Contains(m.children(parent), k) && m.isPinned(parent) {
			return true
		}
	}
	return m.all[k].Pinned
}

// holds returns the children of k that are left and have no other parent that is.
func (m *model) holds(k key) (only []key) {
	for _, child := range m.children(k) {
		other := !m.left[child]
		for p := range m.left {
			other = other || p != k && slices.Contains(m.children(p), child)
		}
		if !other {
			only = append(only, child)
		}
	}
	return only
}

// stuck complains about an image that could still go.
func (m *model) stuck(want func(i evict.Image) bool) error {
	for k := range m.left {
		if want(m.all[k]) && !m.isPinned(k) && len(m.holds(k)) == 0 {
			return fmt.Errorf("%v could still go", k)
		}
	}
	return nil
}

// take removes a step and complains about what it breaks.
func (m *model) take(s evict.Step) error {
	before := m.bytes()
	gone := map[key]bool{}
	for _, v := range s.Images {
		k := key{v.Repository, v.Digest}
		switch {
		case !m.left[k]:
			return fmt.Errorf("%v is not there", k)
		case m.isPinned(k):
			return fmt.Errorf("%v is pinned", k)
		case len(m.holds(k)) > 0:
			return fmt.Errorf("%v goes before its children %v", k, m.holds(k))
		case v.Rule != m.all[k].Rule || v.Use != m.all[k].Use:
			return fmt.Errorf("%v is described as %+v", k, v)
		case m.all[k].Subject != "" && gone[key{k.repo, m.all[k].Subject}] && len(m.children(k)) == 0:
			return fmt.Errorf("%v goes after its subject", k)
		}
		delete(m.left, k)
		gone[k] = true
	}
	if freed := before - m.bytes(); freed != s.Freed {
		return fmt.Errorf("freed %d, not %d", freed, s.Freed)
	}
	for k := range m.left {
		children := m.children(k)
		if len(children) > 0 && !slices.ContainsFunc(children, func(c key) bool { return m.left[c] }) {
			return fmt.Errorf("index %v stays without a child", k)
		}
		subject := key{k.repo, m.all[k].Subject}
		if len(children) == 0 && !m.isPinned(k) && gone[subject] && m.depth(subject, gone) < 2 {
			return fmt.Errorf("%v stays and its subject %v went", k, subject)
		}
	}
	return nil
}

// depth is how many subjects of k are gone, one behind the other.
func (m *model) depth(k key, gone map[key]bool) int {
	subject := key{k.repo, m.all[k].Subject}
	if !gone[subject] || len(m.children(k)) > 0 {
		return 0
	}
	return 1 + m.depth(subject, gone)
}

func low(b evict.Bound) int64 {
	if b.Low > 0 && b.Low <= b.High {
		return b.Low
	}
	return b.High - b.High/32
}

// follow takes all steps and complains about each that was not needed, and about limits
// that are not met.
func (m *model) follow(p evict.Plan, l evict.Limits) error {
	began := map[string]bool{} // limits that had to be met when their first step was taken
	freed := int64(0)
	for n, s := range p.Steps {
		rule := s.Images[0].Rule
		limit, needed := string(s.Reason), false
		switch s.Reason {
		case evict.ReasonAge:
			needed = !slices.ContainsFunc(s.Images, func(v evict.Victim) bool { return v.Use.Idle(now) <= l.Age })
		case evict.ReasonRule:
			limit += " " + rule
			b, size := l.Rules[rule], m.ruleBytes(rule)
			began[limit] = began[limit] || size > b.High
			needed = b.High > 0 && began[limit] && size > low(b)
		case evict.ReasonBytes:
			began[limit] = began[limit] || m.bytes() > l.Bytes.High
			needed = l.Bytes.High > 0 && began[limit] && m.bytes() > low(l.Bytes)
		case evict.ReasonFree:
			needed = freed < l.Free
		}
		if !needed {
			return fmt.Errorf("step %d for the limit %q was not needed", n, limit)
		}
		if err := m.take(s); err != nil {
			return fmt.Errorf("step %d for the limit %q: %w", n, limit, err)
		}
		freed += s.Freed
	}
	if freed != p.Freed || p.Images+p.Left != len(m.all) || p.Left != len(m.left) {
		return fmt.Errorf("freed %d with %d images left, the plan says %d and %d", freed, len(m.left), p.Freed, p.Left)
	}
	return m.met(p, l, freed)
}

// met compares which limits are not met with what the plan says.
func (m *model) met(p evict.Plan, l evict.Limits, freed int64) error {
	var unmet []evict.Unmet
	for _, rule := range slices.Sorted(maps.Keys(l.Rules)) {
		if left := m.ruleBytes(rule) - l.Rules[rule].High; left > 0 {
			unmet = append(unmet, evict.Unmet{Reason: evict.ReasonRule, Rule: rule, Bytes: left})
			if err := m.stuck(func(i evict.Image) bool { return i.Rule == rule }); err != nil {
				return err
			}
		}
	}
	if left := m.bytes() - l.Bytes.High; left > 0 && l.Bytes.High > 0 {
		unmet = append(unmet, evict.Unmet{Reason: evict.ReasonBytes, Bytes: left})
	}
	if left := l.Free - freed; left > 0 {
		unmet = append(unmet, evict.Unmet{Reason: evict.ReasonFree, Bytes: left})
	}
	if !slices.Equal(unmet, p.Unmet) {
		return fmt.Errorf("unmet are %v, the plan says %v", unmet, p.Unmet)
	}
	if n := len(unmet); n > 0 && unmet[n-1].Reason != evict.ReasonRule {
		return m.stuck(func(evict.Image) bool { return true })
	}
	for k := range m.left {
		i := m.all[k]
		alone := len(i.Children) == 0 && !slices.ContainsFunc(slices.Collect(maps.Keys(m.all)), func(p key) bool {
			return p.repo == k.repo && (slices.Contains(m.all[p].Children, k.d) || m.all[p].Subject == k.d)
		})
		if l.Age > 0 && alone && !i.Pinned && i.Use.Idle(now) > l.Age {
			return fmt.Errorf("%v is too old and stays", k)
		}
	}
	return nil
}

// randomImages makes images that share contents, name one another, are in several
// repositories, and are pinned here and there.
func randomImages(r *rand.Rand) (images []evict.Image) {
	repos := 1 + r.IntN(3)
	for i := range 1 + r.IntN(24) {
		repo := r.IntN(repos)
		image := evict.Image{
			Rule: fmt.Sprint("rule", repo/2), Repository: fmt.Sprint("repo", repo), Digest: name(fmt.Sprint("m", i)),
			Bytes: 1 + int64(i), Pinned: r.IntN(8) == 0, Stored: now.Add(-time.Duration(r.IntN(5000)) * time.Minute),
		}
		image.Use = evict.FirstUse(image.Stored)
		for t := image.Stored; r.IntN(3) > 0; image.Use = image.Use.Used(t) {
			t = t.Add(now.Sub(t) * time.Duration(r.IntN(100)) / 100)
		}
		for range r.IntN(4) {
			b := r.IntN(12)
			image.Blobs = append(image.Blobs, evict.Blob{Digest: name(fmt.Sprint("b", b)), Bytes: 1 << b})
		}
		for range max(0, r.IntN(8)-4) { // some of what is named is not there, or is elsewhere
			image.Children = append(image.Children, name(fmt.Sprint("m", r.IntN(i+1)-1)))
		}
		if r.IntN(4) == 0 {
			image.Subject = name(fmt.Sprint("m", r.IntN(i+1)-1))
		}
		images = append(images, image)
		if r.IntN(10) == 0 { // the same, elsewhere
			image.Repository, image.Rule = "other", "rule9"
			images = append(images, image)
		}
	}
	return images
}

func randomLimits(r *rand.Rand, m *model) (l evict.Limits) {
	bound := func(size int64) evict.Bound {
		if r.IntN(2) == 0 || size == 0 {
			return evict.Bound{}
		}
		b := evict.Bound{High: 1 + r.Int64N(size+size/4+1)}
		if r.IntN(2) == 0 {
			b.Low = 1 + r.Int64N(b.High)
		}
		return b
	}
	l.Bytes = bound(m.bytes())
	l.Rules = map[string]evict.Bound{}
	for _, rule := range []string{"rule0", "rule1", "rule9"} {
		if b := bound(m.ruleBytes(rule)); b.High > 0 {
			l.Rules[rule] = b
		}
	}
	if r.IntN(3) == 0 {
		l.Free = r.Int64N(m.bytes() + 1)
	}
	if r.IntN(3) == 0 {
		l.Age = time.Duration(1+r.IntN(80)) * time.Hour
	}
	return l
}

// TestAgainstTheModel: whatever the images are, a plan frees what it says, in the right
// order, leaves what is pinned, meets the limits or says which it cannot, and no more.
func TestAgainstTheModel(t *testing.T) {
	kinds := map[string]int{}
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 1))
		images := randomImages(r)
		m := newModel(images)
		limits := randomLimits(r, m)
		var g evict.Graph
		for _, i := range images {
			g.Add(i)
		}
		sizes := g.Sizes()
		if sizes.Bytes != m.bytes() || sizes.Rules["rule0"] != m.ruleBytes("rule0") ||
			sizes.Repositories["repo1"] != m.size(func(i evict.Image) bool { return i.Repository == "repo1" }) {
			t.Fatalf("seed %d: sizes are %+v", seed, sizes)
		}
		plan := g.Plan(limits, now)
		if err := m.follow(plan, limits); err != nil {
			t.Fatalf("seed %d: %v\n%+v", seed, err, limits)
		}
		r.Shuffle(len(images), func(i, j int) { images[i], images[j] = images[j], images[i] })
		var other evict.Graph
		for _, i := range images {
			other.Add(i)
		}
		if again := other.Plan(limits, now); !reflect.DeepEqual(again, plan) {
			t.Fatalf("seed %d: in another order the plan is\n%v\nnot\n%v", seed, again, plan)
		}
		for _, s := range plan.Steps {
			kinds[fmt.Sprint(s.Reason, " of ", min(len(s.Images), 3))]++
		}
		for _, u := range plan.Unmet {
			kinds["unmet "+string(u.Reason)]++
		}
	}
	t.Log(kinds)
	for _, reason := range []string{"age", "rule", "bytes", "free"} {
		for _, kind := range []string{reason + " of 1", reason + " of 2", reason + " of 3", "unmet " + reason} {
			if kinds[kind] == 0 && kind != "unmet age" {
				t.Errorf("no plan had a step of %s", kind)
			}
		}
	}
}
