package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/fleet"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

// errDown is why a replica is not reached.
var errDown = errors.New("connection refused")

// desk is the Copier of the replica self, in a bubble, and what the others say to it. It is used
// by one goroutine.
type desk struct {
	*testing.T
	copier *fleet.Copier
	fleet  *fleet.Fleet
	job    cache.Job
	// first and second are the others in the order of their rank for the job, both before self.
	first, second string
	members       []string
	says          map[string]word // by replica
	asked         []string        // what was asked of whom
}

// word is what a replica answers: a status and a body, or an error. got says that it has the
// request nevertheless.
type word struct {
	status int
	body   string
	got    bool
	slow   time.Duration
}

func coming(id string) word {
	return word{status: 202, body: fmt.Sprintf(`{"state":"coming","id":%q}`, id)}
}
func state(s cache.JobState) word {
	return word{status: 200, body: fmt.Sprintf(`{"state":%q,"id":"AT"}`, s)}
}

// atDesk runs a story.
func atDesk(t *testing.T, story func(w *desk)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &desk{T: t, members: []string{"self:1", "b:1", "c:1"}, says: map[string]word{}}
		w.fleet = &fleet.Fleet{Self: "self:1", Secret: []byte(secret), Insecure: true, Transport: transport(w.answer),
			Peers: func(context.Context) []string { return slices.Clone(w.members) }}
		c := &cache.Cache{Store: farStore{Store: &store.Mem{}}}
		w.copier = w.fleet.Copier(c)
		defer w.fleet.Close()
		source := upstream.Source{Rule: "team", Host: "registry.example.com", Repository: "team/app"}
		for n := 0; ; n++ {
			d := digest.FromString(fmt.Sprint(n))
			if ranked := fleet.Rank(w.members, source, d); ranked[2] == w.fleet.Self {
				w.first, w.second = ranked[0], ranked[1]
				w.job = cache.Job{ID: "MINE", Repository: "mirror/app", Source: source, Digest: d, Data: []byte("{}")}
				break
			}
		}
		story(w)
	})
}

// answer is what comes from a replica. One of which nothing is said is not reached.
func (w *desk) answer(r *http.Request) (*http.Response, error) {
	path := strings.TrimPrefix(r.URL.Path, "/fleet/v1/")
	if path == "ping" {
		return nil, errDown
	}
	w.asked = append(w.asked, path+" "+r.URL.Host)
	s := w.says[r.URL.Host]
	if s.got || s.status != 0 {
		httptrace.ContextClientTrace(r.Context()).WroteHeaders()
	}
	if s.slow > 0 {
		select {
		case <-time.After(s.slow):
		case <-r.Context().Done():
			return nil, context.Cause(r.Context())
		}
	}
	if s.status == 0 {
		return nil, errDown
	}
	return &http.Response{StatusCode: s.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(s.body)), Request: r}, nil
}

// gives gives the job away, to a replica that knows it as ID.
func (w *desk) gives(to, id string) {
	w.Helper()
	w.says[to] = coming(id)
	if got, err := w.copier.Give(w.Context(), w.job); err != nil || got != id {
		w.Fatalf("given: %q, %v", got, err)
	}
	w.job.ID = id
	w.asked = nil
}

// tracks asks what became of the job. If nobody can say, sure is false.
func (w *desk) tracks() (at cache.JobStatus, sure bool) {
	at, err := w.copier.Track(w.Context(), w.job)
	return at, err == nil
}

// What a job comes to that is given to the first replica of its rank: whoever has the job, or may
// have it, is the only one that does.
func TestGiving(t *testing.T) {
	for name, c := range map[string]struct {
		first word
		id    string
		err   error
		next  bool // whether the second replica gets the job
	}{
		"taken":               {first: coming("AT"), id: "AT"},
		"deleted":             {first: word{status: 410}, err: cache.ErrDeleted},
		"refused":             {first: word{status: 409}, id: "SECOND", next: true},
		"no room":             {first: word{status: 503}, id: "SECOND", next: true},
		"not reached":         {first: word{}, id: "SECOND", next: true},
		"dies with it":        {first: word{got: true}},
		"silent with it":      {first: word{got: true, slow: time.Hour}},
		"a broken answer":     {first: word{status: 202, body: `{"state":`}},
		"an answer of others": {first: word{status: 202, body: `<html>`}},
	} {
		t.Run(name, func(t *testing.T) {
			atDesk(t, func(w *desk) {
				w.says[w.first], w.says[w.second] = c.first, coming("SECOND")
				id, err := w.copier.Give(w.Context(), w.job)
				if id != c.id || !errors.Is(err, c.err) || c.err == nil && err != nil {
					w.Errorf("%q, %v", id, err)
				}
				if next := slices.Contains(w.asked, "copies "+w.second); next != c.next {
					w.Errorf("the second replica was given it: %v", next)
				}
			})
		})
	}
}

// A replica that all others refuse does the job itself.
func TestGivenToNobody(t *testing.T) {
	atDesk(t, func(w *desk) {
		if id, err := w.copier.Give(w.Context(), w.job); id != "" || !errors.Is(err, cache.ErrHere) {
			w.Errorf("%q, %v", id, err)
		}
	})
}

// The replica to which a job was given, or may have been, is asked first about it, whatever its rank.
func TestWhoHasItIsAskedFirst(t *testing.T) {
	for name, c := range map[string]word{"taken": coming("AT"), "perhaps": {got: true}} {
		t.Run(name, func(t *testing.T) {
			atDesk(t, func(w *desk) {
				w.says[w.first], w.says[w.second] = word{status: 409}, c
				if id, err := w.copier.Give(w.Context(), w.job); err != nil {
					w.Fatal(err)
				} else if id != "" {
					w.job.ID = id
				}
				w.asked = nil
				w.says[w.first], w.says[w.second] = state(cache.JobDeleted), state(cache.JobComing)
				if at, sure := w.tracks(); !sure || at.State != cache.JobComing || len(w.asked) != 1 {
					w.Errorf("%+v, %v: %q", at, sure, w.asked)
				}
			})
		})
	}
}

// What became of a job that the first replica has is known from whoever knows anything of it; and
// while one is silent that may have the job, from nobody else's ignorance.
func TestTracking(t *testing.T) {
	unknown := state(cache.JobUnknown)
	for name, c := range map[string]struct {
		first, second word
		want          cache.JobState
		sure          bool
	}{
		"here":                  {state(cache.JobParked), unknown, cache.JobParked, true},
		"moved on":              {unknown, state(cache.JobTold), cache.JobTold, true},
		"lost":                  {unknown, unknown, "", true},
		"silent":                {word{}, unknown, "", false},
		"silent but moved on":   {word{}, state(cache.JobComing), cache.JobComing, true},
		"the other is silent":   {unknown, word{}, "", false},
		"it answers otherwise":  {word{status: 500}, unknown, "", false},
		"it answers with words": {word{status: 200, body: "no"}, unknown, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			atDesk(t, func(w *desk) {
				w.gives(w.first, "AT")
				w.says[w.first], w.says[w.second] = c.first, c.second
				if at, sure := w.tracks(); at.State != c.want || sure != c.sure {
					w.Errorf("%+v, sure %v", at, sure)
				}
			})
		})
	}
}

// A job is lost with its replica once that has been silent for as long as it may take to come back,
// and no sooner, whether it is still among the replicas or not.
func TestSilenceOfWhoHasIt(t *testing.T) {
	for _, leaves := range []bool{false, true} {
		t.Run(fmt.Sprintf("leaves %v", leaves), func(t *testing.T) {
			atDesk(t, func(w *desk) {
				w.gives(w.first, "AT")
				w.says[w.first], w.says[w.second] = word{}, state(cache.JobUnknown)
				if leaves {
					w.members = []string{w.fleet.Self, w.second}
				}
				began := time.Now()
				for range 10 {
					_, sure := w.tracks()
					if long := time.Since(began) >= 5*time.Second; sure != long {
						w.Errorf("after %v: sure %v", time.Since(began), sure)
					}
					time.Sleep(time.Second)
				}
			})
		})
	}
}

// A brief silence is brief, however long ago the replica was silent before: whether it answered
// in between or was not asked.
func TestSilencesDoNotAddUp(t *testing.T) {
	for name, between := range map[string]func(w *desk){
		"it was not asked": func(w *desk) { time.Sleep(time.Hour) },
		"it answered": func(w *desk) {
			w.says[w.first] = state(cache.JobComing)
			for range 30 {
				time.Sleep(time.Second)
				w.tracks()
			}
		},
		"it refused a job": func(w *desk) {
			time.Sleep(30 * time.Second)
			w.says[w.first] = word{status: 500}
			w.tracks()
			time.Sleep(time.Second)
		},
		"it left": func(w *desk) {
			all := w.members
			w.members = []string{w.fleet.Self, w.second}
			w.tracks()
			time.Sleep(time.Hour)
			w.members = all
		},
	} {
		t.Run(name, func(t *testing.T) {
			atDesk(t, func(w *desk) {
				w.gives(w.first, "AT")
				w.says[w.second] = state(cache.JobUnknown)
				w.says[w.first] = word{}
				if _, sure := w.tracks(); sure {
					w.Fatal("it is lost at once")
				}
				between(w)
				w.says[w.first] = word{}
				if _, sure := w.tracks(); sure {
					w.Error("a silence of a moment is taken for a long one")
				}
			})
		})
	}
}

// A silence is noticed by those who give jobs, too.
func TestSilenceBeginsWithAJobThatIsNotTaken(t *testing.T) {
	atDesk(t, func(w *desk) {
		w.says[w.second] = coming("AT")
		if _, err := w.copier.Give(w.Context(), w.job); err != nil {
			w.Fatal(err)
		}
		w.job.ID = "AT"
		time.Sleep(6 * time.Second)
		w.says[w.second] = state(cache.JobUnknown)
		if _, sure := w.tracks(); !sure {
			w.Error("the other replica, which has been silent for long, is waited for")
		}
	})
}

// Who asks and goes away meanwhile hears why, and nothing of a job that may be lost.
func TestTrackingEndsWithItsContext(t *testing.T) {
	atDesk(t, func(w *desk) {
		w.gives(w.first, "AT")
		why := errors.New("no time left")
		for _, silent := range []time.Duration{0, 10 * time.Second} { // a silence that is long, too
			w.says[w.first], w.says[w.second] = word{}, state(cache.JobUnknown)
			w.tracks()
			time.Sleep(silent)
			ctx, cancel := context.WithTimeoutCause(w.Context(), 100*time.Millisecond, why)
			w.says[w.first] = word{slow: time.Hour}
			w.asked = nil
			if at, err := w.copier.Track(ctx, w.job); !errors.Is(err, why) || len(w.asked) != 1 {
				w.Errorf("%+v, %v: %q", at, err, w.asked)
			}
			cancel()
		}
	})
}

// Replicas that share no store have no jobs of one another, and ask nobody.
func TestTrackingWithoutASharedStore(t *testing.T) {
	atDesk(t, func(w *desk) {
		k := w.fleet.Copier(&cache.Cache{Store: &store.Mem{}})
		w.says[w.first] = state(cache.JobComing)
		if at, err := k.Track(w.Context(), w.job); err != nil || at != (cache.JobStatus{}) || len(w.asked) != 0 {
			w.Errorf("%+v, %v: %q", at, err, w.asked)
		}
	})
}
