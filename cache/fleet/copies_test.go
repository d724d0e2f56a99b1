package fleet_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/fleet"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook"
)

// farStore is a store that all replicas share, with records of one replica's own.
type farStore struct {
	store.Store
	store.Records
	tags *sync.Mutex // of all
}

func (s farStore) Shared() bool        { return true }
func (s farStore) Unwrap() store.Store { return s.Store }

func (s farStore) MoveTag(ctx context.Context, repo, tag string, t store.Tag) (store.Tag, error) {
	s.tags.Lock()
	defer s.tags.Unlock()
	former, _ := s.Tag(ctx, repo, tag)
	return former, s.SetTag(ctx, repo, tag, t)
}

// sharing is replicas that share a store and copy for one another.
type sharing struct {
	*testing.T
	up  *upstreamtest.Registry
	far *store.Mem
	all []*replica

	mu     sync.Mutex
	events map[string]int // by action and tag or digest
	ids    map[string]bool
}

func share(t *testing.T, n int, edit ...func(i int, r *replica)) *sharing {
	t.Helper()
	up, err := upstreamtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	s := &sharing{T: t, up: up, far: &store.Mem{}, events: map[string]int{}, ids: map[string]bool{}}
	var tags sync.Mutex
	s.all = fleetOf(t, up, n, func(i int, r *replica) {
		for _, f := range edit {
			f(i, r)
		}
		r.Cache.Store = farStore{s.far, &store.Mem{}, &tags}
		r.Cache.Copier, r.Cache.Deleted = r.Fleet.Copier(r.Cache), r.Fleet.Deleted
		r.Cache.SpoolDir = t.TempDir()
		r.Cache.Events = webhook.SinkFunc(func(_ context.Context, ev webhook.Event) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.events[ev.Action+" "+ev.Target.Tag+" "+ev.Target.Digest]++
			s.ids[ev.ID] = true
			return nil
		})
	})
	return s
}

// image pulls an image by its tag at each replica, with all its blobs.
func (s *sharing) image(replicas []*replica, img upstreamtest.Image) {
	s.Helper()
	var wg sync.WaitGroup
	for i, r := range replicas {
		wg.Go(func() {
			if _, _, err := r.Manifest(s.Context(), "mirror/app", "v1"); err != nil {
				s.Errorf("replica %d: %v", i, err)
			}
			for _, l := range img.Layers {
				if _, _, err := r.pull(s.Context(), "mirror/app", l.Digest); err != nil {
					s.Errorf("replica %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
}

// idle waits until no replica has a copy job.
func (s *sharing) idle(replicas []*replica) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), time.Minute)
	defer cancel()
	for i, r := range replicas {
		if err := r.Idle(ctx); err != nil {
			s.Fatalf("replica %d has something to do: %v: %v", i, err, r.Copies())
		}
	}
}

// toldOnce checks that there was one set of events for an image.
func (s *sharing) toldOnce(img upstreamtest.Image) {
	s.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	d := img.Digest.String()
	if len(s.events) != 2 || s.events["push v1 "+d] != 1 || s.events["push  "+d] != 1 {
		s.Errorf("%v", s.events)
	}
}

// One replica copies an image that is pulled from all, and sends its events.
func TestOneCopyForAll(t *testing.T) {
	s := share(t, 3)
	img := s.up.AddImage("team/app", "v1", upstreamtest.Layers(3, 100<<10))
	s.image(s.all, img)
	s.idle(s.all)
	s.toldOnce(img)
	for _, l := range img.Layers {
		if n := s.up.Count("GET", "blob", l.Digest.String()); n != 1 && !someSeemedDead(t, s.all) {
			t.Errorf("%d downloads", n)
		}
	}
	var given, taken int64
	for _, r := range s.all {
		given, taken = given+r.Fleet.Stats().Given, taken+r.Fleet.Stats().Taken
	}
	if given == 0 || given != taken {
		t.Errorf("%d jobs were given, %d taken", given, taken)
	}
}

// owner is the index of the replica that copies an image.
func (s *sharing) owner(img upstreamtest.Image) int {
	var addresses []string
	for _, r := range s.all {
		addresses = append(addresses, r.address)
	}
	rules, err := s.all[0].rules.Match(s.Context(), "mirror/app")
	if err != nil {
		s.Fatal(err)
	}
	first := fleet.Rank(addresses, rules.Source, img.Digest)[0]
	for i, r := range s.all {
		if r.address == first {
			return i
		}
	}
	s.Fatal("nobody")
	return -1
}

// When the replica that copies dies, with all that it knew, its witnesses go on.
func TestCopierDies(t *testing.T) {
	t.Parallel() // it waits for the replica to come back
	s := share(t, 3)
	img := s.up.AddImage("team/app", "v1", upstreamtest.Layers(2, 100<<10))
	s.up.Fail(upstreamtest.Fault{Kind: "blob", Hang: true})
	dies := s.all[s.owner(img)]
	var live []*replica
	for _, r := range s.all {
		if r != dies {
			live = append(live, r)
			if _, _, err := r.Manifest(t.Context(), "mirror/app", "v1"); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, r := range live { // until the one has the job from both
		for len(r.Copies()) != 1 || r.Copies()[0].State != cache.CopySubmitted {
			time.Sleep(time.Millisecond)
		}
	}
	_ = dies.peers.Close()
	if err := dies.Cache.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.up.Heal()
	s.up.Release()
	s.image(live, img)
	s.idle(live)
	s.toldOnce(img)
}

// Without a store that is shared, each replica copies for itself.
func TestCopierNeedsASharedStore(t *testing.T) {
	up, err := upstreamtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	img := up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1000))
	var copiers []*fleet.Copier
	all := fleetOf(t, up, 2, func(_ int, r *replica) {
		copiers = append(copiers, r.Fleet.Copier(r.Cache))
		r.Cache.Copier = copiers[len(copiers)-1]
	})
	for i, r := range all {
		if err := copiers[i].Check(); err == nil {
			t.Error("nothing is wrong")
		}
		if _, _, err := r.Manifest(t.Context(), "mirror/app", "v1"); err != nil {
			t.Fatal(err)
		}
		if err := r.Idle(t.Context()); err != nil {
			t.Fatal(err)
		}
		if x, err := r.Explain(t.Context(), "mirror/app", img.Digest.String()); err != nil || !x.Stored {
			t.Errorf("%v, %v", x.Text, err)
		}
		if n := r.Fleet.Stats().Given; n != 0 {
			t.Errorf("%d were given", n)
		}
	}
}

// post sends a body to a replica.
func (r *replica) post(t *testing.T, method, path, secret string, body io.Reader) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+r.address+"/fleet/v1/"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	if b, ok := body.(begun); ok {
		req.ContentLength = b.length
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	resp, err := r.clients.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// begun is a body of which the first bytes come, and no more until it is closed. A client that
// goes on sending may find its connection closed before it sees that its body is refused.
type begun struct {
	*io.PipeReader
	length int64 // that is declared; negative if none is
}

func begin(n, length int64) io.Reader {
	body, in := io.Pipe()
	go func() { _, _ = io.CopyN(in, endless{}, n) }()
	return begun{body, length}
}

// endless is a body that does not end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// What others send is checked before anything is done with it.
func TestPostsAreChecked(t *testing.T) {
	s := share(t, 2)
	img := s.up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1000))
	r := s.all[0]
	job := func(change func(*cache.Job)) io.Reader {
		data, err := json.Marshal(map[string]any{"id": "X", "repository": "mirror/app", "digest": img.Digest, "manifest": img.Manifest})
		if err != nil {
			t.Fatal(err)
		}
		j := cache.Job{ID: "X", Repository: "mirror/app", Digest: img.Digest, Data: data}
		if change != nil {
			change(&j)
		}
		body, err := json.Marshal(j)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.NewReader(body)
	}
	for _, c := range []struct {
		method, path, secret string
		body                 io.Reader
		want                 int
	}{
		{"POST", "copies", "wrong", job(nil), 401},
		{"POST", "copies/state", "wrong", job(nil), 401},
		{"POST", "forget", "wrong", strings.NewReader("{}"), 401},
		{"GET", "copies", secret, nil, 405},
		{"GET", "copies/state", secret, nil, 405},
		{"DELETE", "forget", secret, nil, 405},
		{"POST", "copies", secret, strings.NewReader("{"), 400},
		{"POST", "copies", secret, strings.NewReader("[]"), 400},
		{"POST", "copies", secret, begin(16<<20+1, -1), 413},
		{"POST", "copies", secret, begin(0, 16<<20+1), 413},
		{"POST", "copies", secret, job(nil), 409}, // no source
		{"POST", "copies", secret, job(func(j *cache.Job) { j.Source.Rule = "team" }), 409},
		{"POST", "copies/state", secret, job(func(j *cache.Job) { j.ID = "Y" }), 409},
		{"POST", "copies/state", secret, strings.NewReader("x"), 400},
		{"POST", "forget", secret, begin(64<<10+1, -1), 413},
		{"POST", "forget", secret, strings.NewReader(`{"repository":"../x"}`), 400},
		{"POST", "forget", secret, strings.NewReader(`{"repository":"mirror/app","reference":"v1","at":"2100-01-01T00:00:00Z"}`), 204},
		{"POST", "copies/other", secret, strings.NewReader("{}"), 404},
	} {
		if got := r.post(t, c.method, c.path, c.secret, c.body); got != c.want {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, got, c.want)
		}
	}
	if n := len(r.Copies()); n != 0 {
		t.Errorf("%d copies", n)
	}
	r.Fleet.Leave()
	if got := r.post(t, "POST", "copies", secret, job(nil)); got != 503 {
		t.Errorf("leaving: %d", got)
	}
}

// A replica that leaves gives its jobs to others, and takes none.
func TestLeavingGivesCopiesAway(t *testing.T) {
	s := share(t, 2)
	img := s.up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1000))
	leaves := s.all[s.owner(img)]
	leaves.Leave()
	s.image([]*replica{leaves}, img)
	s.idle(s.all)
	s.toldOnce(img)
	if n := leaves.Fleet.Stats().Given; n != 1 {
		t.Errorf("%d jobs were given", n)
	}
}

// transport is a function as a way to the other replicas.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A replica that does not answer when something is deleted is told later.
func TestDeletionIsToldLater(t *testing.T) {
	var fails atomic.Bool
	s := share(t, 2, func(_ int, r *replica) {
		r.Fleet.Transport = transport(func(q *http.Request) (*http.Response, error) {
			if fails.Load() {
				return nil, errors.New("the network is down")
			}
			return http.DefaultTransport.RoundTrip(q)
		})
	})
	img := s.up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1000))
	s.image(s.all, img)
	s.idle(s.all)
	stored := func() bool {
		x, err := s.all[1].Explain(t.Context(), "mirror/app", img.Digest.String())
		if err != nil {
			t.Fatal(err)
		}
		return x.Stored
	}
	if !stored() {
		t.Fatal("it is not remembered")
	}
	fails.Store(true)
	if err := s.all[0].Delete(t.Context(), "mirror/app", img.Digest.String()); err != nil {
		t.Fatal(err)
	}
	if !stored() {
		t.Error("it was told")
	}
	for fails.Store(false); stored(); {
		time.Sleep(10 * time.Millisecond)
	}
}
