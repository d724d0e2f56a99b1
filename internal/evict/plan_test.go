package evict_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/evict"
)

const (
	day = 24 * time.Hour
	mib = 1 << 20
)

// shelf is what a store has in a test: images by name, that come and go.
type shelf map[string]evict.Image

// store adds an image of its own bytes.
func (s shelf) store(n, rule string, bytes int64, u evict.Use, stored time.Time) {
	s[n] = evict.Image{Rule: rule, Repository: rule + "/r", Digest: name(n), Bytes: bytes, Use: u, Stored: stored}
}

func (s shelf) change(n string, f func(i *evict.Image)) {
	i := s[n]
	f(&i)
	s[n] = i
}

// plan removes what a plan gives up, and returns it, by name.
func (s shelf) plan(l evict.Limits, at time.Time) (evict.Plan, []string) {
	var g evict.Graph
	names := map[string]string{}
	for n, i := range s {
		g.Add(i)
		names[i.Repository+i.Digest.String()] = n
	}
	plan := g.Plan(l, at)
	var gone []string
	for _, step := range plan.Steps {
		for _, v := range step.Images {
			n := names[v.Repository+v.Digest.String()]
			gone = append(gone, n)
			delete(s, n)
		}
	}
	return plan, gone
}

// count is the number of images of a rule.
func (s shelf) count(rule string) (n int) {
	for _, i := range s {
		if i.Rule == rule {
			n++
		}
	}
	return n
}

// flood has a rule pull many tags, each twice if again is set, while the limits hold.
func (s shelf) flood(rule string, tags int, again bool, l evict.Limits) {
	for tag := range tags {
		at := now.Add(time.Duration(tag) * time.Minute)
		n := fmt.Sprint(rule, " tag ", tag)
		s.store(n, rule, 10*mib, evict.FirstUse(at), at)
		if old := fmt.Sprint(rule, " tag ", tag-90); again {
			s.change(old, func(i *evict.Image) { i.Use = i.Use.Used(at) })
			if s[old].Digest == "" {
				delete(s, old)
			}
		}
		if tag%50 == 49 {
			s.plan(l, at)
		}
	}
}

// tenant stores 40 images of rule "b": half of them are used daily, half are new.
func tenant() shelf {
	s := shelf{}
	for n := range 20 {
		s.store(fmt.Sprint("daily ", n), "b", 10*mib, used(9*day, 3*day, 2*day, day), now.Add(-9*day))
		s.store(fmt.Sprint("new ", n), "b", 10*mib, used(day), now.Add(-day))
	}
	return s
}

// TestFloodOfARuleDrivesOutItsOwn: a rule that pulls ten thousand tags drives out none of
// another rule's images, neither those that are used daily nor those that are new.
func TestFloodOfARuleDrivesOutItsOwn(t *testing.T) {
	s := tenant()
	s.flood("a", 10_000, false, evict.Limits{Bytes: evict.Bound{High: 2000 * mib}})
	if n := s.count("b"); n != 40 {
		t.Errorf("%d images of the other rule are left, want 40", n)
	}
	if n := s.count("a"); n == 0 || n > 200 {
		t.Errorf("%d images of the flood are left", n)
	}
}

// TestLimitOfARuleHoldsWhateverItDoes: with a limit of its own a rule drives out none of
// another rule's images, even if all that it pulls is used again and they are not.
func TestLimitOfARuleHoldsWhateverItDoes(t *testing.T) {
	s := tenant()
	limits := evict.Limits{
		Bytes: evict.Bound{High: 2000 * mib},
		Rules: map[string]evict.Bound{"a": {High: 1000 * mib}},
	}
	s.flood("a", 10_000, true, limits)
	if n := s.count("b"); n != 40 {
		t.Errorf("%d images of the other rule are left, want 40", n)
	}
	if n := s.count("a"); n < 80 || n > 150 {
		t.Errorf("%d images of the flood are left", n)
	}
}

// TestLargeImageIsNoFlood: the image that was stored last stays, at the cost of what is
// cold. One that takes more than the share of new images goes alone, until it has a habit;
// and one that is larger than the space always does.
func TestLargeImageIsNoFlood(t *testing.T) {
	s, limits := shelf{}, evict.Limits{Bytes: evict.Bound{High: 1000 * mib}}
	for n := range 80 {
		s.store(fmt.Sprint("habit ", n), "a", 10*mib, used(time.Duration(n+2)*time.Hour, time.Duration(n+1)*time.Hour), now.Add(-9*day))
	}
	for n := range 10 {
		s.store(fmt.Sprint("new ", n), "a", 10*mib, used(time.Hour), now.Add(time.Duration(n-60)*time.Minute))
	}
	for n, c := range []struct {
		mib  int64
		use  evict.Use
		want string
	}{
		{120, used(0), "habit 79 habit 78 habit 77 habit 76 habit 75 habit 74"},
		{300, used(0), "image 1"},
		{300, used(2*time.Hour, 0), "new 0 new 1 new 2 new 3 new 4 new 5 new 6 new 7 new 8 new 9 " +
			"habit 73 habit 72 habit 71 habit 70 habit 69 habit 68 habit 67 habit 66 habit 65 habit 64 " +
			"habit 63 habit 62 habit 61 habit 60 habit 59 habit 58 habit 57 habit 56 habit 55 habit 54"},
		{2000, used(2*time.Hour, 0), "image 3"},
	} {
		s.store(fmt.Sprint("image ", n), "a", c.mib*mib, c.use, now.Add(time.Duration(n)*time.Minute))
		_, gone := s.plan(limits, now)
		if got := strings.Join(gone, " "); got != c.want {
			t.Errorf("for an image of %d MiB go %s, want %s", c.mib, got, c.want)
		}
	}
}

// TestIndexGoesWithItsLastChild: platforms go one by one; the last one lives as long as
// its index is used, and takes along the index and what refers to either. A platform that
// another index names stays.
func TestIndexGoesWithItsLastChild(t *testing.T) {
	s := shelf{}
	s.store("amd64", "a", 10*mib, used(50*day), now)
	s.store("arm64", "a", 10*mib, used(40*day), now)
	s.store("index", "a", 1000, used(50*day, 10*day), now)
	s.change("index", func(i *evict.Image) { i.Children = []digest.Digest{name("amd64"), name("arm64"), name("not here")} })
	s.store("signature", "a", 1000, used(60*day), now)
	s.change("signature", func(i *evict.Image) { i.Subject = name("index") })
	s.store("other", "a", 10*mib, used(30*day), now)
	s.store("older", "a", 10*mib, used(31*day), now)
	for _, c := range []struct {
		age  time.Duration
		want string
	}{
		{55 * day, "[signature]"},
		{45 * day, "[amd64]"},
		{35 * day, "[]"},
		{20 * day, "[older other]"},
		{9 * day, "[arm64 index]"},
	} {
		if _, gone := s.plan(evict.Limits{Age: c.age}, now); fmt.Sprint(gone) != c.want {
			t.Errorf("%v go when they are older than %v, want %v", gone, c.age, c.want)
		}
	}

	s.store("shared", "a", 10*mib, used(9*day), now)
	for _, n := range []string{"old", "new"} {
		s.store(n, "a", 1000, used(9*day), now)
		s.change(n, func(i *evict.Image) { i.Children = []digest.Digest{name("shared")}; i.Pinned = n == "new" })
	}
	s.store("signature", "a", 1000, used(0), now)
	s.change("signature", func(i *evict.Image) { i.Subject = name("old") })
	plan, gone := s.plan(evict.Limits{Free: mib}, now)
	if fmt.Sprint(gone) != "[signature old]" || len(plan.Unmet) != 1 || plan.Unmet[0].Bytes != mib-2000 {
		t.Errorf("%v go beside what a pinned index names, %v is unmet", gone, plan.Unmet)
	}
}

// TestWhatGoesTogetherIsAsWarmAsItsWarmest: the last child of an index that is asked for
// every day is in use, and so is an image whose signature is read every day; but what does
// not fit goes whatever is asked for.
func TestWhatGoesTogetherIsAsWarmAsItsWarmest(t *testing.T) {
	s := shelf{}
	daily := used(4*day, 3*day, 2*day, day)
	s.store("child", "a", 10*mib, used(90*day), now.Add(-90*day))
	s.store("index", "a", 1000, daily, now.Add(-90*day))
	s.change("index", func(i *evict.Image) { i.Children = []digest.Digest{name("child")} })
	s.store("signed", "a", 10*mib, used(90*day), now.Add(-90*day))
	s.store("signature", "a", 1000, daily, now.Add(-90*day))
	s.change("signature", func(i *evict.Image) { i.Subject = name("signed") })
	s.store("other", "a", 10*mib, used(40*day, 20*day), now.Add(-40*day))
	s.store("new", "a", 10*mib, used(day), now.Add(-day))
	if _, gone := s.plan(evict.Limits{Free: 15 * mib}, now); fmt.Sprint(gone) != "[new other]" {
		t.Errorf("%v go before what is in use", gone)
	}
	s.store("cold", "a", 10*mib, used(95*day), now.Add(-95*day))
	s.change("child", func(i *evict.Image) { i.Bytes = 200 * mib })
	if _, gone := s.plan(evict.Limits{Bytes: evict.Bound{High: 100 * mib}}, now); fmt.Sprint(gone) != "[child index]" {
		t.Errorf("%v go, want what does not fit", gone)
	}
}

// TestSharedBytesCountOnce: layers of an image that others name are not freed with it, and
// each rule counts them.
func TestSharedBytesCountOnce(t *testing.T) {
	s := shelf{}
	for n, rule := range []string{"a", "a", "b"} {
		i := fmt.Sprint("image ", n)
		s.store(i, rule, 1000, used(time.Duration(9-n)*day), now)
		s.change(i, func(i *evict.Image) {
			i.Blobs = []evict.Blob{{Digest: name("base"), Bytes: mib}, {Digest: name("base"), Bytes: mib}}
		})
	}
	var g evict.Graph
	for _, i := range s {
		g.Add(i)
		g.Add(i)
	}
	if g.Len() != 3 {
		t.Errorf("%d images, want 3", g.Len())
	}
	sizes := g.Sizes()
	if fmt.Sprint(sizes) != "{1051576 map[a:1050576 b:1049576] map[a/r:1050576 b/r:1049576]}" {
		t.Errorf("sizes are %v", sizes)
	}
	plan, gone := s.plan(evict.Limits{Free: 2001}, now)
	if fmt.Sprint(gone) != "[image 0 image 1 image 2]" || plan.Steps[1].Freed != 1000 || plan.Steps[2].Freed != mib+1000 {
		t.Errorf("%v go, %+v", gone, plan)
	}
}

// TestHysteresis: nothing goes below the high mark, and beyond it all above the low one.
func TestHysteresis(t *testing.T) {
	s := shelf{}
	for n := range 100 {
		s.store(fmt.Sprint(n), "a", mib, used(time.Duration(n)*time.Hour), now)
	}
	for _, c := range []struct {
		bound evict.Bound
		want  int
	}{{evict.Bound{High: 100 * mib}, 0}, {evict.Bound{High: 100*mib - 1}, 4}, {evict.Bound{High: 90 * mib, Low: 80 * mib}, 16}, {evict.Bound{}, 0}} {
		if _, gone := s.plan(evict.Limits{Bytes: c.bound}, now); len(gone) != c.want {
			t.Errorf("with %v, %d images go, want %d", c.bound, len(gone), c.want)
		}
	}
}
