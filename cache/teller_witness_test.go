package cache_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook"
)

// holder is a Teller that takes all jobs, and says of each what the test lets it say.
type holder struct {
	mu           sync.Mutex
	id           string // what Give returns
	at           cache.JobStatus
	err          error // of Track
	once         bool  // then it knows nothing any more
	given, asked []cache.Job
}

func (h *holder) Submit(context.Context, cache.Job) error { return errors.New("Give is there") }

func (h *holder) Give(_ context.Context, job cache.Job) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.given = append(h.given, job)
	return h.id, nil
}

func (h *holder) Track(_ context.Context, job cache.Job) (cache.JobStatus, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = append(h.asked, job)
	at := h.at
	if h.once {
		h.at = cache.JobStatus{}
	}
	return at, h.err
}

// says sets what is said from now on.
func (h *holder) says(state cache.JobState, id string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at, h.err = cache.JobStatus{State: state, ID: id}, err
}

// jobs are those that were given, and those that were asked about.
func (h *holder) jobs() (given, asked []cache.Job) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.given), slices.Clone(h.asked)
}

// tieredStore is a store that has a near one, and notes what it hears of other processes.
type tieredStore struct {
	*store.Mem
	mu      sync.Mutex
	arrived []digest.Digest
	forgot  []string
	fails   error // of Forget
}

func (s *tieredStore) NearStore() store.Store                                      { return s.Mem }
func (s *tieredStore) Backed(context.Context, string, digest.Digest) (bool, error) { return true, nil }

func (s *tieredStore) Forget(_ context.Context, repo, reference string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgot = append(s.forgot, repo+" "+reference)
	return s.fails
}

func (s *tieredStore) Arrived(_ string, d digest.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.arrived = append(s.arrived, d)
}

// asWitness runs a story of a cache that gives its jobs to a holder, which has them under the ID AT.
func asWitness(t *testing.T, story func(c *clock, h *holder, s *tieredStore)) {
	t.Helper()
	h, s := &holder{id: "AT", at: cache.JobStatus{State: cache.JobComing, ID: "AT"}}, &tieredStore{Mem: &store.Mem{}}
	inBubble(t, func(c *clock) {
		c.stop()
		c.store = s
		c.start(func(c *clock) { c.cache.Copier = h })
		story(c, h, s)
	})
}

// elsewhere copies what a tag stands for to the same store, as another process does it.
func (c *clock) elsewhere(tag string) {
	c.Helper()
	other := &cache.Cache{Rules: c.rules, Store: struct{ store.Store }{c.store}, Upstream: &upstream.Client{Transport: inMemory{c.up}}}
	_, _, err := other.Manifest(c.Context(), "app/api", tag)
	if err = errors.Join(err, other.Idle(c.Context()), other.Shutdown(context.Background())); err != nil {
		c.Fatal(err)
	}
}

// A witness asks about a job without its manifest, by the ID that the job has where it is, also after
// a restart, even if that is not known when it is given away.
func TestWitnessAsksByTheIDThatItHeard(t *testing.T) {
	asWitness(t, func(c *clock, h *holder, _ *tieredStore) {
		h.id = ""
		h.says(cache.JobComing, "THERE", nil)
		c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.manifest("v1")
		c.pass(time.Minute)
		c.stop()
		c.start(func(c *clock) { c.cache.Copier = h })
		c.pass(time.Minute)
		given, asked := h.jobs()
		if len(given) != 1 || len(asked) < 4 {
			c.Fatalf("%d were given, %d questions", len(given), len(asked))
		}
		for n, job := range asked {
			if known := job.ID == "THERE"; known != (n > 0) {
				c.Errorf("question %d is about %s", n, job.ID)
			}
			var data struct{ Manifest []byte }
			if err := json.Unmarshal(job.Data, &data); err != nil || len(data.Manifest) > 0 {
				c.Errorf("question %d has a manifest of %d bytes, %v", n, len(data.Manifest), err)
			}
		}
		h.says(cache.JobTold, "THERE", nil)
		c.pass(time.Minute)
	})
}

// Once another cache has done a job, a witness serves what it brought, and not what it remembers,
// whether the events are sent yet or not.
func TestWitnessSeesWhatAnotherCacheBrought(t *testing.T) {
	for _, state := range []cache.JobState{cache.JobTold, cache.JobSending} {
		t.Run(string(state), func(t *testing.T) {
			asWitness(t, func(c *clock, h *holder, s *tieredStore) {
				c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
				c.elsewhere("v1")
				c.manifest("v1")
				c.pass(time.Minute)
				img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 2000))
				c.manifest("v1")
				c.pass(time.Second)
				c.only(cache.CopySubmitted)
				c.elsewhere("v1")
				if len(s.arrived) != 0 {
					c.Errorf("%v have arrived", s.arrived)
				}
				h.says(state, "AT", nil)
				c.pass(20 * time.Second)
				c.up.Fail(upstreamtest.Fault{Status: 503})
				desc, _, err := c.cache.Manifest(c.Context(), "app/api", "v1")
				if err != nil || desc.Digest != img.Digest {
					c.Errorf("%v is served, not %v: %v", desc.Digest, img.Digest, err)
				}
				if !slices.Contains(s.arrived, img.Digest) {
					c.Errorf("%v have arrived", s.arrived)
				}
				h.says(cache.JobTold, "AT", nil)
				c.pass(time.Hour)
				if all := c.cache.Copies(); len(all) != 0 {
					c.Errorf("%v", all)
				}
			})
		})
	}
}

// A witness that hears that what it had copied was deleted has no more to do with it.
func TestWitnessHearsOfADeletion(t *testing.T) {
	asWitness(t, func(c *clock, h *holder, _ *tieredStore) {
		c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.manifest("v1")
		c.pass(time.Second)
		h.says(cache.JobDeleted, "AT", nil)
		c.pass(time.Minute)
		if given, _ := h.jobs(); len(given) != 1 || len(c.cache.Copies()) != 0 {
			c.Errorf("given %d times, %v", len(given), c.cache.Copies())
		}
	})
}

// So has one to which a third cache gives the job, even if nobody else knows of the deletion a moment
// later.
func TestWitnessThatIsGivenTheJobHearsOfADeletion(t *testing.T) {
	asWitness(t, func(c *clock, h *holder, _ *tieredStore) {
		c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.manifest("v1")
		c.pass(time.Second)
		given, _ := h.jobs()
		h.says(cache.JobDeleted, "AT", nil)
		h.once = true
		if id, err := c.cache.Accept(c.Context(), with(given[0], "OTHER", nil)); err != nil || id != "AT" {
			c.Fatalf("%q, %v", id, err)
		}
		c.pass(time.Minute)
		if given, _ := h.jobs(); len(given) != 1 || len(c.cache.Copies()) != 0 || len(c.events) != 0 {
			c.Errorf("given %d times, %v, %d events", len(given), c.cache.Copies(), len(c.events))
		}
	})
}

// A witness to which a third cache gives the job of which it is one finds out first whether the
// holder still has it. Only if that is lost, it does the job, with the events that the holder may
// not have come to.
func TestWitnessIsGivenTheJob(t *testing.T) {
	for name, at := range map[string]struct {
		state  cache.JobState
		err    error
		copies bool
	}{
		"coming":  {state: cache.JobComing},
		"parked":  {state: cache.JobParked},
		"sending": {state: cache.JobSending},
		"told":    {state: cache.JobTold},
		"deleted": {state: cache.JobDeleted},
		"silent":  {err: errors.New("no answer")},
		"lost":    {copies: true},
	} {
		t.Run(name, func(t *testing.T) {
			asWitness(t, func(c *clock, h *holder, _ *tieredStore) {
				img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
				c.manifest("v1")
				c.pass(time.Second)
				given, _ := h.jobs()
				c.elsewhere("v1")
				h.says(at.state, "AT", at.err)
				if id, err := c.cache.Accept(c.Context(), with(given[0], "OTHER", nil)); err != nil || id != "AT" {
					c.Fatalf("%q, %v", id, err)
				}
				c.pass(10 * time.Second)
				got := map[string]int{}
				for _, ev := range c.events {
					got[ev.Target.Tag+" "+ev.Target.Digest]++
				}
				want := 0
				if at.copies {
					want = 1
				}
				if d := img.Digest.String(); got["v1 "+d] != want || got[" "+d] != want || len(got) != 2*want {
					c.Errorf("events: %v", got)
				}
				if given, _ := h.jobs(); len(given) != 1 {
					c.Errorf("given %d times", len(given))
				}
				ends := at.copies || at.state == cache.JobTold || at.state == cache.JobDeleted
				if n := len(c.cache.Copies()); (n == 0) != ends {
					c.Errorf("%d copies are left", n)
				}
			})
		})
	}
}

// waiter is a sink that cannot tell whether events wait in it.
type waiter struct{ webhook.Sink }

func (waiter) Waits(context.Context, ...string) bool { return true }

// A job without events waits for none, even if the sink does not know what waits in it.
func TestJobWithoutEventsIsTold(t *testing.T) {
	asWitness(t, func(c *clock, h *holder, _ *tieredStore) {
		c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.manifest("v1")
		c.elsewhere("v1")
		h.says(cache.JobTold, "AT", nil)
		c.pass(time.Minute)
		c.stop()
		c.start(func(c *clock) { c.cache.Copier, c.cache.Events = h, waiter{c.cache.Events} })
		given, _ := h.jobs()
		h.says(cache.JobUnknown, "", nil)
		job := with(given[0], "OTHER", map[string]any{"created": time.Now(), "tags": nil})
		if _, err := c.cache.Accept(c.Context(), job); err != nil {
			c.Fatal(err)
		}
		c.pass(time.Minute)
		if at, err := c.cache.JobState(c.Context(), job); err != nil || at.State != cache.JobTold || len(c.events) != 0 {
			c.Errorf("%+v, %v, %d events", at, err, len(c.events))
		}
	})
}

// A cache whose store has a near one lets it forget what another cache has deleted.
func TestForgetInANearStore(t *testing.T) {
	asWitness(t, func(c *clock, _ *holder, s *tieredStore) {
		for _, d := range []cache.Deletion{{Repository: "app/api", Reference: "v1"}, {Repository: "app/api"}} {
			if err := c.cache.Forget(c.Context(), d); err != nil {
				c.Error(err)
			}
		}
		if want := []string{"app/api v1", "app/api "}; !slices.Equal(s.forgot, want) {
			c.Errorf("%q were forgotten, want %q", s.forgot, want)
		}
		s.fails = errors.New("the disk is broken")
		if err := c.cache.Forget(c.Context(), cache.Deletion{Repository: "app/api", Reference: "v1"}); !errors.Is(err, s.fails) {
			c.Errorf("%v", err)
		}
	})
}
