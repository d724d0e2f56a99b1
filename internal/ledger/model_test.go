package ledger_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/internal/ledger"
	"github.com/pullthrough/pullthrough/internal/oci"
)

// modelJob is a copy job in the simple model.
type modelJob struct {
	state    ledger.State
	created  time.Time
	parked   time.Time // when, at the latest
	attempts int
	tags     []string
}

// model says what a ledger should do with its random operations: images and an index of
// two of them, each of which comes to something when it is done.
type model struct {
	now       time.Time
	manifests map[string]*oci.Content
	images    map[string][]string // of the index
	comesTo   map[string]error
	stored    map[string]bool
	jobs      map[string]*modelJob
	moved     map[string]int // tags
}

// run does the jobs that are queued, until nothing is.
func (m *model) run() {
	for again := true; again; {
		again = false
		for _, n := range slices.Sorted(maps.Keys(m.jobs)) {
			if j := m.jobs[n]; j != nil && j.state == ledger.Queued {
				m.do(n, j)
				again = true
			}
		}
	}
}

func (m *model) do(n string, j *modelJob) {
	err := m.comesTo[n]
	if m.stored[n] {
		err = nil
	}
	images := m.images[n]
	switch {
	case err == nil && len(images) > 0 && !slices.ContainsFunc(images, func(i string) bool { return m.stored[i] }):
		j.state = ledger.Waiting
	case err == nil:
		m.done(n, j)
	case errors.Is(err, ledger.ErrHandedOver):
		j.state = ledger.Submitted
	case errors.Is(err, errGone):
		m.remove(n)
	case errors.Is(err, errOwn):
		if j.attempts++; j.attempts >= 3 {
			j.state, j.parked = ledger.Parked, m.now
			m.wake(n)
			return
		}
		j.state = ledger.Paused
	default:
		j.state = ledger.Paused
	}
}

func (m *model) done(n string, j *modelJob) {
	m.stored[n] = true
	for _, t := range j.tags {
		m.moved[t]++
	}
	m.remove(n)
}

func (m *model) remove(n string) {
	delete(m.jobs, n)
	m.wake(n)
}

// wake queues the indexes that wait for an image.
func (m *model) wake(n string) {
	for name, images := range m.images {
		if j := m.jobs[name]; j != nil && j.state == ledger.Waiting && slices.Contains(images, n) {
			j.state = ledger.Queued
		}
	}
}

// pass lets two hours pass: every pause is over several times.
func (m *model) pass() {
	m.now = m.now.Add(2 * time.Hour)
	for again := true; again; {
		again = false
		for n, j := range m.jobs {
			again = m.act(n, j) || again
		}
		m.run()
	}
}

// act does what time does to a job, and reports whether there may be more of that.
func (m *model) act(n string, j *modelJob) bool {
	age := m.now.Sub(j.created)
	coming := slices.ContainsFunc(m.images[n], func(i string) bool {
		c := m.jobs[i]
		return c != nil && c.state != ledger.Parked && c.state != ledger.Watching
	})
	switch {
	case j.state == ledger.Paused && !errors.Is(m.comesTo[n], errHost) || j.state == ledger.Paused && m.stored[n]:
		j.state = ledger.Queued
		return true
	case j.state == ledger.Submitted && m.stored[n]:
		m.done(n, j)
		return true
	case j.state == ledger.Submitted && !errors.Is(m.comesTo[n], ledger.ErrHandedOver):
		j.state = ledger.Queued
		return true
	case j.state == ledger.Watching && age > 25*time.Hour,
		j.state == ledger.Waiting && age > 25*time.Hour && !coming,
		j.state == ledger.Parked && m.now.Sub(j.parked) > 7*24*time.Hour:
		delete(m.jobs, n)
		m.wake(n)
		return true
	}
	return false
}

// TestAgainstTheModel does random operations, and compares what is known and what has
// moved with a simple model after each.
func TestAgainstTheModel(t *testing.T) {
	rounds := 60
	if testing.Short() {
		rounds = 10
	}
	for seed := range uint64(rounds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, func(w *world) { againstTheModel(w, rand.New(rand.NewPCG(seed, 1))) }, func(w *world) { w.cfg.Wait = 25 * time.Hour })
		})
	}
}

func againstTheModel(w *world, r *rand.Rand) {
	m := &model{now: time.Now(), comesTo: map[string]error{}, stored: map[string]bool{}, jobs: map[string]*modelJob{}, moved: map[string]int{}}
	m.manifests = map[string]*oci.Content{"i1": image(1), "i2": image(2), "i3": image(3), "index": index(image(1), image(2))}
	m.images = map[string][]string{"index": {"i1", "i2"}}
	names := slices.Sorted(maps.Keys(m.manifests))
	var story []string
	for step := range 80 {
		n := names[r.IntN(len(names))]
		op := r.IntN(9)
		story = append(story, fmt.Sprint(op, " ", n))
		switch j := m.jobs[n]; op {
		case 0, 1, 2:
			m.add(w, n, fmt.Sprint("t", step), op == 2 && n != "index")
		case 3:
			errs := []error{nil, nil, errOwn, errHost, errGone, ledger.ErrHandedOver}
			m.comesTo[n] = errs[r.IntN(len(errs))]
			w.comesTo(m.manifests[n], m.comesTo[n])
		case 4:
			w.ledger.Forget(repo, m.manifests[n].Digest.String())
			if j != nil {
				m.remove(n)
			}
		case 5:
			_, _ = w.ledger.Retry(w.Context(), func(job ledger.Job) bool { return job.Digest == m.manifests[n].Digest })
			if j != nil && (j.state == ledger.Parked || j.state == ledger.Paused) {
				j.state, j.attempts = ledger.Queued, 0
			}
		case 6:
			for _, d := range m.manifests[n].Parsed.Layers {
				w.ledger.Asked(repo, d.Digest, false)
				if j != nil && j.state == ledger.Watching {
					j.state = ledger.Queued
				}
			}
		case 7:
			w.restart()
			for _, j := range m.jobs {
				if j.state == ledger.Submitted || j.state == ledger.Waiting {
					j.state = ledger.Queued
				}
			}
		case 8:
			w.pass(2 * time.Hour)
			m.pass()
		}
		synctest.Wait()
		m.run()
		m.compare(w, story)
	}
}

// add adds a job for a tag, or without one if it is only to be watched.
func (m *model) add(w *world, n, tag string, onDemand bool) {
	tags := []string{tag}
	if onDemand {
		tags = nil
	}
	w.addJob(m.manifests[n], ledger.Job{OnDemand: onDemand}, tags...)
	j := m.jobs[n]
	switch {
	case j == nil && onDemand:
		m.jobs[n] = &modelJob{state: ledger.Watching, created: m.now}
		return
	case j == nil:
		j = &modelJob{state: ledger.Queued, created: m.now}
		m.jobs[n] = j
	case j.state == ledger.Watching && !onDemand, j.state == ledger.Parked && m.now.Sub(j.parked) > 10*time.Minute:
		j.state = ledger.Queued
	}
	j.tags = append(j.tags, tags...)
}

func (m *model) compare(w *world, story []string) {
	w.Helper()
	for n, man := range m.manifests {
		want := ledger.State("")
		if j := m.jobs[n]; j != nil {
			want = j.state
		}
		if got := w.state(man); got != want || w.has(key(man)) != m.stored[n] {
			w.Fatalf("%s is %q (stored %v), want %q (stored %v), after %s", n, got, w.has(key(man)), want, m.stored[n], strings.Join(story, ", "))
		}
	}
	moved := map[string]int{}
	for _, line := range w.moved {
		_, tag, _ := strings.Cut(line, " ")
		moved[tag]++
	}
	if !maps.Equal(moved, m.moved) {
		w.Fatalf("moved %v, want %v, after %s", moved, m.moved, strings.Join(story, ", "))
	}
	w.wantRecords()
}
