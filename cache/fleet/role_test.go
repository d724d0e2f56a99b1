package fleet

import (
	"fmt"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/upstream"
)

var testKey = key{upstream.Source{Rule: "team", Host: "registry.example.com", Repository: "team/app"}, digest.FromString("blob")}

// What a replica answers and may do, by what it does already.
func TestRoles(t *testing.T) {
	type does func(r *roles) (undo func())
	asks := does(func(r *roles) func() { return r.ask(testKey) })
	fills := does(func(r *roles) func() { return r.fill(testKey) })
	promises := does(func(r *roles) func() {
		done, _, _ := r.promise(testKey, asker{name: "z", without: []string{"b"}})
		return done
	})
	waits := func(peer string) does { // follows one that has not answered yet
		return func(r *roles) func() { _, done, _ := r.follow(testKey, peer); return done }
	}
	follows := func(peer string) does {
		return func(r *roles) func() { answered, done, _ := r.follow(testKey, peer); answered(); return done }
	}
	yields := does(func(r *roles) func() { r.yield(testKey); return func() {} })
	givesWay := does(func(r *roles) func() {
		r.stand(testKey, asker{name: "first", first: true}, true, 0)
		return func() {}
	})
	bring := stand{brings: true}
	coming := func(does []does, otherwise stand) stand {
		if len(does) == 0 {
			return bring // it is there already, as far as it came
		}
		return otherwise
	}
	for name, c := range map[string]struct {
		does      []does
		stand     stand // of a blob that no download is under way of
		first     stand // the same, for a replica that comes before this one
		without   stand // the same, for one that does without b
		begun     stand // for one that does not come before this one, of a blob whose download has just begun
		holder    string
		past      string // holder for one that does without b
		follow    bool   // may it follow
		committed bool   // must it ask the upstream
	}{
		"nothing":              {begun: bring, follow: true},
		"asks":                 {does: []does{asks}, stand: bring, without: bring, begun: bring, follow: true},
		"asks, and gives way":  {does: []does{asks, givesWay}, stand: bring, without: bring, begun: bring, holder: "first", past: "first", follow: true},
		"fills":                {does: []does{fills}, stand: bring, first: bring, without: bring, begun: bring, follow: true, committed: true},
		"gives way, and fills": {does: []does{asks, givesWay, fills}, stand: bring, first: bring, without: bring, begun: bring, follow: true, committed: true},
		"promises":             {does: []does{promises}, stand: bring, first: bring, without: bring, begun: bring, committed: true},
		"asks and promises":    {does: []does{asks, promises}, stand: bring, first: bring, without: bring, begun: bring, committed: true},
		"fills and promises":   {does: []does{fills, promises}, stand: bring, first: bring, without: bring, begun: bring, committed: true},
		"waits":                {does: []does{waits("b")}, stand: stand{holder: "b"}, first: stand{holder: "b"}, without: stand{holder: "b"}, begun: stand{holder: "b"}, holder: "b", past: "b", follow: true},
		"follows":              {does: []does{follows("b")}, stand: stand{holder: "b"}, first: stand{holder: "b"}, without: bring, begun: stand{holder: "b"}, holder: "b", follow: true},
		"follows two":          {does: []does{follows("c"), follows("b")}, stand: stand{holder: "b"}, first: stand{holder: "b"}, without: stand{holder: "c"}, begun: stand{holder: "b"}, holder: "b", past: "c", follow: true},
		"follows twice":        {does: []does{follows("b"), waits("b")}, stand: stand{holder: "b"}, first: stand{holder: "b"}, without: stand{holder: "b"}, begun: stand{holder: "b"}, holder: "b", past: "b", follow: true},
		"follows, is followed": {does: []does{follows("b"), promises}, stand: stand{holder: "b"}, first: stand{holder: "b"}, without: bring, begun: stand{holder: "b"}, holder: "b", committed: true},
		"follows and fills":    {does: []does{follows("b"), fills}, stand: stand{holder: "b"}, first: stand{holder: "b"}, without: bring, begun: stand{holder: "b"}, holder: "b", follow: true, committed: true},
		"yields":               {does: []does{fills, yields}, stand: bring, first: bring, without: bring, begun: bring, follow: true},
		"yields, then fills":   {does: []does{fills, yields, fills}, stand: bring, first: bring, without: bring, begun: bring, follow: true, committed: true},
		"yields while it must": {does: []does{fills, promises, yields}, stand: bring, first: bring, without: bring, begun: bring, committed: true},
	} {
		r := roles{blobs: map[key]*role{}}
		var undo []func()
		for _, do := range c.does {
			undo = append(undo, do(&r))
		}
		for what, s := range map[string]struct {
			got, want stand
		}{
			"what is under way":               {r.stand(testKey, asker{name: "z"}, true, 1), coming(c.does, c.stand)},
			"what has just begun":             {r.stand(testKey, asker{name: "z"}, true, 0), c.begun},
			"what it does not get":            {r.stand(testKey, asker{name: "z"}, false, 0), c.stand},
			"that, and does without b":        {r.stand(testKey, asker{name: "z", without: []string{"b"}}, false, 0), c.without},
			"that, and comes before it":       {r.stand(testKey, asker{name: "first", first: true}, false, 0), c.first},
			"what has begun, and is first":    {r.stand(testKey, asker{name: "first", first: true}, true, 0), c.first},
			"what is under way, and is first": {r.stand(testKey, asker{name: "first", first: true}, true, 1), coming(c.does, c.first)},
		} {
			if s.got != s.want {
				t.Errorf("%s: a replica that asks for %s hears %+v, want %+v", name, what, s.got, s.want)
			}
		}
		if got := r.committed(testKey); got != c.committed {
			t.Errorf("%s: committed is %v", name, got)
		}
		for without, want := range map[string]string{"": c.holder, "b": c.past} {
			if name == "asks" { // it has given way above
				want = "first"
			}
			done, holder, ok := r.promise(testKey, asker{name: "z", without: []string{without}})
			if ok != (want == "") || holder != want {
				t.Errorf("%s: promise to one without %q is %v, with the holder %q", name, without, ok, holder)
			}
			if ok {
				done()
			}
		}
		_, done, ok := r.follow(testKey, "z")
		if ok != c.follow {
			t.Errorf("%s: follow is %v", name, ok)
		}
		done()
		for _, f := range undo {
			f()
		}
		if len(r.blobs) != 0 {
			t.Errorf("%s: left over: %+v", name, r.blobs[testKey])
		}
	}
}

// A replica that is followed does not begin to follow, and one that waits for another one's
// answer is not followed, whichever asks: in no order of events is there a cycle.
func TestNoCycles(t *testing.T) {
	r := roles{blobs: map[key]*role{}}
	promised, _, ok := r.promise(testKey, asker{name: "z"})
	if _, _, both := r.follow(testKey, "b"); !ok || both {
		t.Errorf("it follows while it is followed: %v, %v", ok, both)
	}
	promised()
	answered, done, ok := r.follow(testKey, "b")
	if _, holder, both := r.promise(testKey, asker{name: "z", without: []string{"b"}}); !ok || both || holder != "b" {
		t.Errorf("it is followed before it has an answer itself: %v, %v, holder %q", ok, both, holder)
	}
	answered()
	if _, holder, both := r.promise(testKey, asker{name: "z"}); both || holder != "b" {
		t.Errorf("it is followed by one that may reach b: %v, holder %q", both, holder)
	}
	promised, _, ok = r.promise(testKey, asker{name: "z", without: []string{"b"}})
	if _, _, both := r.follow(testKey, "c"); !ok || both {
		t.Errorf("it begins to follow another one while it is followed: %v, %v", ok, both)
	}
	done()
	if _, _, both := r.follow(testKey, "c"); both || !r.committed(testKey) {
		t.Error("it follows another one in place of the one that has gone, while it is followed")
	}
	promised()
	if _, _, ok = r.follow(testKey, "c"); !ok {
		t.Error("it does not follow when nobody follows it any more")
	}
}

// Two replicas that ask one another at once do not both send the other one away.
func TestTwoThatFollowOneAnother(t *testing.T) {
	r := roles{blobs: map[key]*role{}}
	answered, done, _ := r.follow(testKey, "other")
	defer done()
	if _, holder, ok := r.promise(testKey, asker{name: "other", first: true}); ok || holder != "other" {
		t.Errorf("it answers the first one, which answers it: %v, %q", ok, holder)
	}
	if _, holder, ok := r.promise(testKey, asker{name: "third"}); ok || holder != "other" {
		t.Errorf("it answers a third one: %v, %q", ok, holder)
	}
	promised, holder, ok := r.promise(testKey, asker{name: "other"})
	if !ok {
		t.Errorf("it does not answer the second one, but names %q", holder)
	}
	promised()
	answered()
	if _, holder, ok := r.promise(testKey, asker{name: "other"}); ok || holder != "other" {
		t.Errorf("it answers one that it gets the blob from: %v, %q", ok, holder)
	}
}

// A replica that has given way to another one answers that one.
func TestWhoGivesWayAnswers(t *testing.T) {
	r := roles{blobs: map[key]*role{}}
	defer r.ask(testKey)()
	r.stand(testKey, asker{name: "a", first: true}, true, 0)
	if _, holder, ok := r.promise(testKey, asker{name: "b"}); ok || holder != "a" {
		t.Errorf("it answers another one: %v, %q", ok, holder)
	}
	done, holder, ok := r.promise(testKey, asker{name: "b", without: []string{"a"}})
	if !ok {
		t.Fatalf("it does not answer one that does without a, but names %q", holder)
	}
	done()
	done, holder, ok = r.promise(testKey, asker{name: "a", first: true})
	if !ok {
		t.Fatalf("it does not, but names %q", holder)
	}
	if _, holder, ok := r.promise(testKey, asker{name: "b"}); !ok {
		t.Errorf("it answers no other one then, but names %q", holder)
	}
	done()
}

// To have given way counts as long as the others are being asked.
func TestGivingWayHasAnEnd(t *testing.T) {
	r := roles{blobs: map[key]*role{}}
	_, followed, _ := r.follow(testKey, "z")
	defer followed()
	done := r.ask(testKey)
	r.blobs[testKey].gaveWay = []string{"a"}
	done()
	if filled, others := r.fillUnless(testKey); filled == nil {
		t.Errorf("it asks %v", others)
	} else {
		filled()
	}
}

// A replica that gave way to another one asks that one before it fills, and once.
func TestWhoGivesWayAsksOnceMore(t *testing.T) {
	r := roles{blobs: map[key]*role{}}
	defer r.ask(testKey)()
	for range 2 {
		r.stand(testKey, asker{name: "a", first: true}, true, 0)
		r.stand(testKey, asker{name: "b"}, true, 0)
	}
	if done, others := r.fillUnless(testKey); done != nil || !slices.Equal(others, []string{"a"}) {
		t.Errorf("it fills, or asks %v", others)
	}
	done, others := r.fillUnless(testKey)
	if done == nil || len(others) > 0 || !r.committed(testKey) {
		t.Errorf("it does not fill, but asks %v", others)
	}
	done()
	for i := range 2 * maxAskedInDoubt {
		r.stand(testKey, asker{name: fmt.Sprint(i), first: true}, true, 0)
	}
	if _, others := r.fillUnless(testKey); len(others) != maxAskedInDoubt {
		t.Errorf("it asks %d once more", len(others))
	}
}

// Who is followed does not give up what it fills, however far another replica is.
func TestNobodyYieldsWhileOthersWait(t *testing.T) {
	r := roles{blobs: map[key]*role{}}
	defer r.fill(testKey)()
	done, _, _ := r.promise(testKey, asker{name: "z"})
	if r.yield(testKey) {
		t.Error("it gives up what others wait for")
	}
	done()
	if !r.yield(testKey) || r.committed(testKey) {
		t.Error("it does not give up what nobody waits for")
	}
}

func TestParseSource(t *testing.T) {
	for header, want := range map[string]upstream.Source{
		"team registry.example.com/team/app": {Rule: "team", Host: "registry.example.com", Repository: "team/app"},
		"a b:5000/c":                         {Rule: "a", Host: "b:5000", Repository: "c"},
	} {
		if got, ok := parseSource(header); !ok || got != want {
			t.Errorf("%q: %+v, %v", header, got, ok)
		}
	}
	for _, header := range []string{"", " ", "team", "team ", "team host", "team host/", "team /app", " host/app", "/", "team/host app"} {
		if got, ok := parseSource(header); ok {
			t.Errorf("%q: %+v", header, got)
		}
	}
}

func FuzzParseSource(f *testing.F) {
	f.Add("team registry.example.com/team/app")
	f.Add(" /")
	f.Fuzz(func(t *testing.T, header string) {
		s, ok := parseSource(header)
		if ok && (s.Rule == "" || s.Host == "" || s.Repository == "" || s.Rule+" "+s.Host+"/"+s.Repository != header) {
			t.Errorf("%q: %+v", header, s)
		}
	})
}
