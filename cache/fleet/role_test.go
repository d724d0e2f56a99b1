package fleet

import (
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
	promises := does(func(r *roles) func() { done, _, _ := r.promise(testKey); return done })
	follows := func(peer string) does {
		return func(r *roles) func() { done, _ := r.follow(testKey, peer); return done }
	}
	yields := does(func(r *roles) func() { r.yield(testKey); return func() {} })
	for name, c := range map[string]struct {
		does          []does
		stand, coming stand // of a blob that is not, and is under way
		promise       bool  // may others be answered
		holder        string
		follow        bool // may it follow
		committed     bool // must it ask the upstream
	}{
		"nothing":              {coming: stand{brings: true}, promise: true, follow: true},
		"asks":                 {does: []does{asks}, stand: stand{asks: true}, coming: stand{asks: true}, promise: true, follow: true},
		"fills":                {does: []does{fills}, stand: stand{brings: true}, coming: stand{brings: true}, promise: true, follow: true, committed: true},
		"asks and fills":       {does: []does{asks, fills}, stand: stand{brings: true}, coming: stand{brings: true}, promise: true, follow: true, committed: true},
		"promises":             {does: []does{promises}, stand: stand{brings: true}, coming: stand{brings: true}, promise: true, committed: true},
		"asks and promises":    {does: []does{asks, promises}, stand: stand{brings: true}, coming: stand{brings: true}, promise: true, committed: true},
		"fills and promises":   {does: []does{fills, promises}, stand: stand{brings: true}, coming: stand{brings: true}, promise: true, committed: true},
		"follows":              {does: []does{follows("b")}, stand: stand{holder: "b"}, coming: stand{holder: "b"}, holder: "b", follow: true},
		"follows two":          {does: []does{follows("c"), follows("b")}, stand: stand{holder: "b"}, coming: stand{holder: "b"}, holder: "b", follow: true},
		"follows and fills":    {does: []does{follows("b"), fills}, stand: stand{holder: "b"}, coming: stand{holder: "b"}, holder: "b", follow: true, committed: true},
		"yields":               {does: []does{fills, yields}, stand: stand{brings: true}, coming: stand{brings: true}, promise: true, follow: true},
		"yields, then fills":   {does: []does{fills, yields, fills}, stand: stand{brings: true}, coming: stand{brings: true}, promise: true, follow: true, committed: true},
		"yields while it must": {does: []does{fills, promises, yields}, stand: stand{brings: true}, coming: stand{brings: true}, promise: true, committed: true},
	} {
		r := roles{blobs: map[key]*role{}}
		var undo []func()
		for _, do := range c.does {
			undo = append(undo, do(&r))
		}
		if got := r.stand(testKey, false, 0); got != c.stand {
			t.Errorf("%s: a replica that asks hears %+v, want %+v", name, got, c.stand)
		}
		if got := r.stand(testKey, true, 1); got != c.coming {
			t.Errorf("%s: a replica that asks for what is under way hears %+v, want %+v", name, got, c.coming)
		}
		if len(c.does) == 0 {
			c.coming = stand{asks: true}
		}
		if got := r.stand(testKey, true, 0); got != c.coming {
			t.Errorf("%s: a replica that asks for what has just begun hears %+v, want %+v", name, got, c.coming)
		}
		if got := r.committed(testKey); got != c.committed {
			t.Errorf("%s: committed is %v", name, got)
		}
		done, holder, ok := r.promise(testKey)
		if ok != c.promise || holder != c.holder {
			t.Errorf("%s: promise is %v, with the holder %q", name, ok, holder)
		}
		if ok {
			done()
		}
		done, ok = r.follow(testKey, "z")
		if ok != c.follow {
			t.Errorf("%s: follow is %v", name, ok)
		}
		if ok {
			done()
		}
		for _, f := range undo {
			f()
		}
		if len(r.blobs) != 0 {
			t.Errorf("%s: left over: %+v", name, r.blobs[testKey])
		}
	}
}

// No order of events makes a replica follow while it is followed.
func TestNobodyFollowsAFollower(t *testing.T) {
	r := roles{blobs: map[key]*role{}}
	follow := func() (func(), bool) { return r.follow(testKey, "b") }
	promise := func() (func(), bool) { done, _, ok := r.promise(testKey); return done, ok }
	for i, first := range []func() (func(), bool){follow, promise} {
		second := []func() (func(), bool){promise, follow}[i]
		done, ok := first()
		if _, both := second(); !ok || both {
			t.Errorf("%d: %v, then %v", i, ok, both)
		}
		done()
		if done, ok = second(); !ok {
			t.Errorf("%d: not even after the end of the other", i)
		}
		done()
	}
}

// Who is followed does not give up what it fills, however far another replica is.
func TestNobodyYieldsWhileOthersWait(t *testing.T) {
	r := roles{blobs: map[key]*role{}}
	defer r.fill(testKey)()
	done, _, _ := r.promise(testKey)
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
