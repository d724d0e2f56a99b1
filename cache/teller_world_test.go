package cache_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook"
	"github.com/pullthrough/pullthrough/webhook/webhooktest"
)

// crew is several caches in a bubble that share a store and run one another's jobs. Each
// has records of its own.
type crew struct {
	*testing.T
	up     *upstreamtest.Registry
	far    *store.Mem
	rules  *rule.Set
	member []*member
	outbox bool // events go through an outbox that has its records beside those of the jobs
	// hook is a receiver behind such an outbox. If nil, the events are counted.
	hook *webhooktest.Recorder
	// apart says that the outbox does not take events along with the changes of a copy.
	apart bool

	// owner is which cache is first to do a job. If nil, cache 0 is.
	owner func(cache.Job) int
	// views is the same for those who do not agree: what cache n believes.
	views func(n int) int

	mu     sync.Mutex
	events map[string]int // by action, tag or digest
	ids    map[string]bool
}

// member is one of the caches. When it dies, nothing that it does has an effect any more.
type member struct {
	*crew
	n       int
	cache   *cache.Cache
	records *store.Mem
	limits  cache.Limits
	out     *webhook.Outbox // nil if there is none

	mu    sync.Mutex
	crash string // the step before which it dies
	died  time.Time
	asked int // how often Track was called
}

var errKilled = errors.New("the process is dead")

// inCrew runs a story with caches of which the first does what it is given.
func inCrew(t *testing.T, members int, story func(w *crew), setup ...func(*crew)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &crew{T: t, up: upstreamtest.NewHandler(), far: &store.Mem{}, events: map[string]int{}, ids: map[string]bool{}}
		var err error
		if w.rules, err = rule.NewSet(rule.Rule{Name: "team", Source: source + "/team/*", Target: "app/*"}); err != nil {
			t.Fatal(err)
		}
		for _, f := range setup {
			f(w)
		}
		for n := range members {
			m := &member{crew: w, n: n}
			w.member = append(w.member, m)
		}
		for _, m := range w.member {
			m.start(false)
		}
		defer func() {
			for _, m := range w.member {
				m.stop()
			}
			for _, text := range w.up.Complaints() {
				t.Error(text)
			}
		}()
		story(w)
	})
}

// start is the begin of a process, with the records of the former one or without.
func (m *member) start(keep bool) {
	m.Helper()
	if !keep || m.records == nil {
		m.records = &store.Mem{}
	}
	own, sink := &memberStore{m.far, m}, webhook.Sink(webhook.SinkFunc(m.event))
	if m.outbox {
		m.out = &webhook.Outbox{Records: own, Receivers: []webhook.Receiver{{Name: "test", Sink: sink}}}
	}
	if m.apart {
		m.out.Records = &memberStore{m.far, m}
	}
	if m.hook != nil {
		m.out.Receivers[0].Sink = webhook.SinkFunc(m.deliver)
	}
	c := &cache.Cache{Rules: m.rules, Store: own, Upstream: &upstream.Client{Transport: inMemory{m.up}},
		SpoolDir: m.TempDir(), Limits: m.limits, Copier: desk{m}, Deleted: m.tell, Events: sink}
	m.mu.Lock()
	m.cache, m.died, m.crash = c, time.Time{}, ""
	m.mu.Unlock()
	if m.outbox {
		c.Events = m.out
		if err := m.out.Start(m.Context()); err != nil {
			m.Fatal(err)
		}
	}
	if err := c.Start(m.Context()); err != nil {
		m.Fatal(err)
	}
}

func (m *member) stop() {
	if err := m.cache.Shutdown(context.Background()); err != nil {
		m.Error(err)
	}
	if m.out != nil {
		if err := m.out.Shutdown(context.Background()); err != nil {
			m.Error(err)
		}
	}
}

// kill is the end of a process at once.
func (m *member) kill() {
	m.mu.Lock()
	m.died = time.Now()
	m.mu.Unlock()
	m.stop()
}

// step is called before each thing that a process does. It fails if the process is dead.
func (m *member) step(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.died.IsZero() && m.crash != "" && m.crash == name {
		m.died = time.Now()
	}
	if !m.died.IsZero() {
		return errKilled
	}
	return nil
}

func (m *member) alive() (since time.Duration, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.died.IsZero() {
		return 0, true
	}
	return time.Since(m.died), false
}

// now is the cache of the process that runs.
func (m *member) now() *cache.Cache {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cache
}

// event counts what is told.
func (m *member) event(_ context.Context, ev webhook.Event) error {
	if err := m.step("event"); err != nil {
		return err
	}
	what := ev.Target.Tag
	if what == "" {
		what = ev.Target.Digest[7:13]
	}
	m.crew.mu.Lock()
	m.events[ev.Action+" "+what]++
	m.ids[ev.ID] = true
	m.crew.mu.Unlock()
	_ = m.step("event sent")
	return nil
}

// deliver sends an event to the receiver.
func (m *member) deliver(ctx context.Context, ev webhook.Event) error {
	if err := m.step("deliver"); err != nil {
		return err
	}
	to := &webhook.HTTP{URL: "http://scanner.example.com/hook", Transport: m.hook.Transport()}
	return to.Send(ctx, ev)
}

// tell tells the others of a deletion.
func (m *member) tell(ctx context.Context, d cache.Deletion) {
	for _, o := range m.member {
		if _, ok := o.alive(); ok && o != m {
			if err := o.now().Forget(ctx, d); err != nil {
				m.Error(err)
			}
		}
	}
}

// desk gives jobs to the first cache that lives.
type desk struct{ *member }

func (d desk) Submit(ctx context.Context, job cache.Job) error {
	_, err := d.Give(ctx, job)
	return err
}

func (d desk) Give(ctx context.Context, job cache.Job) (string, error) {
	if err := d.step("give"); err != nil {
		return "", err
	}
	for _, m := range d.ranked(job) {
		if m == d.member {
			return "", cache.ErrHere
		}
		if m.step("accept") != nil {
			continue
		}
		id, err := m.now().Accept(ctx, job)
		if m.step("accepted") != nil {
			return "", nil // perhaps it has it
		}
		return id, err
	}
	return "", errors.New("nobody takes it")
}

// ranked returns the caches in the order in which they are to do a job.
func (d desk) ranked(job cache.Job) []*member {
	first := 0
	switch {
	case d.owner != nil:
		first = d.owner(job)
	case d.views != nil:
		first = d.views(d.n)
	}
	return append([]*member{d.crew.member[first]}, slices.Delete(slices.Clone(d.crew.member), first, first+1)...)
}

// patience is how long a dead cache may come back.
const patience = 5 * time.Second

func (d desk) Track(ctx context.Context, job cache.Job) (cache.JobStatus, error) {
	d.member.mu.Lock()
	d.asked++
	d.member.mu.Unlock()
	for _, m := range d.crew.member {
		if m == d.member {
			continue
		}
		if since, ok := m.alive(); !ok && since < patience {
			return cache.JobStatus{}, errKilled
		} else if !ok {
			continue
		}
		if s, err := m.now().JobState(ctx, job); err != nil || s.State != cache.JobUnknown {
			return s, err
		}
	}
	return cache.JobStatus{}, nil
}

// memberStore is the store that all share, with records of a cache's own. The cache dies
// at the step that it is to die at.
type memberStore struct {
	store.Store
	m *member
}

func (s *memberStore) Unwrap() store.Store { return s.Store }
func (s *memberStore) Shared() bool        { return true }

func (s *memberStore) Create(ctx context.Context, repo string, want store.Info) (store.Writer, error) {
	if err := s.m.step("create"); err != nil {
		return nil, err
	}
	w, err := s.Store.Create(ctx, repo, want)
	return &memberWriter{w, s.m, want.IsManifest()}, err
}

type memberWriter struct {
	store.Writer
	m        *member
	manifest bool
}

func (w *memberWriter) Commit(ctx context.Context) error {
	if w.manifest {
		_ = w.m.step("manifest")
	}
	if err := w.m.step("commit"); err != nil {
		return err
	}
	return w.Writer.Commit(ctx)
}

// moving orders the moves of tags of all.
var moving sync.Mutex

func (s *memberStore) MoveTag(ctx context.Context, repo, tag string, t store.Tag) (former store.Tag, err error) {
	if err := s.m.step("tag"); err != nil {
		return former, err
	}
	moving.Lock()
	defer moving.Unlock()
	former, _ = s.Store.Tag(ctx, repo, tag)
	err = s.Store.SetTag(ctx, repo, tag, t)
	_ = s.m.step("tagged")
	return former, err
}

func (s *memberStore) PutRecord(ctx context.Context, kind, key string, data []byte) error {
	if err := s.m.step("put " + kind); err != nil {
		return err
	}
	return s.m.records.PutRecord(ctx, kind, key, data)
}

func (s *memberStore) Record(ctx context.Context, kind, key string) ([]byte, error) {
	return s.m.records.Record(ctx, kind, key)
}

func (s *memberStore) DeleteRecord(ctx context.Context, kind, key string) error {
	if err := s.m.step("delete " + kind); err != nil {
		return err
	}
	return s.m.records.DeleteRecord(ctx, kind, key)
}

func (s *memberStore) RecordKeys(ctx context.Context, kind string) iter.Seq2[string, error] {
	return s.m.records.RecordKeys(ctx, kind)
}

// pull pulls manifests by tag or digest.
func (m *member) pull(references ...string) {
	m.Helper()
	for _, ref := range references {
		if _, _, err := m.cache.Manifest(m.Context(), "app/api", ref); err != nil {
			m.Fatalf("cache %d: %s: %v", m.n, ref, err)
		}
	}
}

// pullBlob pulls a layer.
func (m *member) pullBlob(d digest.Digest) {
	m.Helper()
	_, body, err := m.cache.Blob(m.Context(), "app/api", d)
	if err != nil {
		m.Fatal(err)
	}
	_ = body.Close()
}

func (w *crew) pass(d time.Duration) { time.Sleep(d); synctest.Wait() }

// settled lets time pass until nothing is left to do, and fails if something stays.
func (w *crew) settled() {
	w.Helper()
	w.pass(2 * time.Minute)
	for _, m := range w.member {
		if _, ok := m.alive(); !ok {
			continue
		}
		for _, s := range m.cache.Copies() {
			w.Errorf("cache %d: %s", m.n, s)
		}
	}
}

// want checks how often each event was sent, and under how many IDs.
func (w *crew) want(ids int, events map[string]int) {
	w.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if fmt.Sprint(w.events) != fmt.Sprint(events) || len(w.ids) != ids {
		w.Errorf("events %v with %d IDs, want %v with %d", w.events, len(w.ids), events, ids)
	}
}
