package soak

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

const (
	honestClients  = 4
	hostileClients = 16
	deafClients    = 12
)

// limits are those of a small cache, so that a few hostile clients fill it, with timeouts
// below a minute: with the defaults a single response that does not come would outlast the
// whole test.
var limits = cache.Limits{
	Downloads: 24, DownloadsPerHost: 12, Requests: 48, RequestsPerHost: 24, Lists: 8, Jobs: 8, MaxJobs: 100,
	ManifestMemory: 4 << 20, KeptBytes: 1 << 20,
	IdleTimeout: time.Second, SendTimeout: time.Second, AnswerTimeout: 2 * time.Second, SlotTimeout: 2 * time.Second,
}

// stale is the default of Limits.StaleTimeout, which the test uses: a pull that waits longer
// for the upstream has fwd=stale.
const stale = 2 * time.Second

// stage is the cache with both tenants' upstreams.
type stage struct {
	*testing.T
	seed   uint64
	home   *home
	evil   *evil
	rules  *rule.Set
	cache  *cache.Cache
	web    *httptest.Server
	honest *honest
	wrong  complaints
	late   complaints // of what a machine that is too busy causes as well: see [stage.judge]
}

// TestTwoTenants: all honest pulls are correct, fresh and about as quick as without the
// hostile tenant, all honest copies end, and the resources that the hostile tenant held are
// released.
func TestTwoTenants(t *testing.T) {
	length, seed := settings(t)
	t.Logf("PULLTHROUGH_SOAK=%v PULLTHROUGH_SOAK_SEED=%d", length, seed)
	s := newStage(t, seed)

	calm := s.pullFor(length / 4)
	s.await("the cache is idle after the honest tenant alone", time.Minute, s.idle)
	before := s.measure()

	gang := s.unleash()
	loaded := s.pullFor(length - length/4)
	if left := wait(20*time.Second, func() string { return s.honestCopies(loaded) }); left != "" {
		s.late.add("the copies of the honest tenant do not end while the other goes on: %s", left)
	}
	gang.leave()
	s.evil.vanish()
	s.await("the cache is idle when everybody has gone", 2*time.Minute, s.idle)
	s.evil.close()
	// The deaf clients still hold their connections: the cache must have closed them by
	// itself.
	s.returned(before, gang.count.Load(), len(gang.deaf))
	gang.close()

	s.home.down()
	s.honest.wantAllStored()
	s.judge(calm, loaded)
	t.Logf("seed %d: alone: %v; with %d hostile requests: %v; %d tags moved, %d images stored; %+v",
		seed, calm, gang.count.Load(), loaded, s.honest.moves.Load(), len(s.honest.pulled), s.cache.Stats())
	for _, c := range s.wrong.all() {
		t.Error(c)
	}
}

// settings reads the environment.
func settings(t *testing.T) (length time.Duration, seed uint64) {
	length, seed = 5*time.Second, rand.Uint64()
	var err error
	if v := os.Getenv("PULLTHROUGH_SOAK"); v != "" {
		if length, err = time.ParseDuration(v); err != nil || length <= 0 {
			t.Fatalf("PULLTHROUGH_SOAK=%q: %v", v, err)
		}
	}
	if v := os.Getenv("PULLTHROUGH_SOAK_SEED"); v != "" {
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatalf("PULLTHROUGH_SOAK_SEED=%q: %v", v, err)
		}
	}
	return length, seed
}

func newStage(t *testing.T, seed uint64) *stage {
	s := &stage{T: t, seed: seed}
	s.home, s.evil = newHome(t), newEvil(t, seed)
	var err error
	s.rules, err = rule.NewSet(
		rule.Rule{Name: "honest", Source: s.home.host + "/team/*", Target: "app/*"},
		// Strangers on the host of the honest tenant.
		rule.Rule{Name: "open", Source: s.home.host + "/open/*", Target: "open/*"},
		rule.Rule{Name: "greedy", Source: s.home.host + "/greedy/*", Target: "greedy/*"},
		// Another host, all of which is hostile.
		rule.Rule{Name: "evil", Source: s.evil.host + "/evil/*", Target: "evil/*"},
		rule.Rule{Name: "limited", Source: s.evil.host + "/limited/*", Target: "limited/*"},
		rule.Rule{Name: "chained", Source: s.evil.host + "/chained/*", Target: "chained/*", Referrers: true, Platforms: []string{"all"}},
	)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := store.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir.MaxPartial = 64 << 20
	s.cache = &cache.Cache{Rules: s.rules, Store: dir, Limits: limits, Parked: s.parked, Logger: slog.New(listener{complaints: &s.late}), Upstream: &upstream.Client{Hosts: map[string]upstream.Host{
		s.home.host: {RootCAs: s.home.roots, Redirects: []string{deadAddress}},
		s.evil.host: {PlainHTTP: true, Redirects: []string{deadAddress, s.evil.storageHost}},
	}}}
	if err := s.cache.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.web = httptest.NewServer(s.cache)
	t.Cleanup(func() {
		s.web.CloseClientConnections()
		s.web.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := errors.Join(s.cache.Shutdown(ctx), dir.Close()); err != nil {
			t.Error("Shutdown:", err)
		}
	})
	s.honest = newHonest(s)
	return s
}

// random returns an actor's own random source.
func (s *stage) random(actor uint64) *rand.Rand { return rand.New(rand.NewPCG(s.seed, actor)) }

// parked is called for copies that are parked.
func (s *stage) parked(c cache.CopyState) {
	if c.Source.Rule == "honest" {
		s.late.add("an honest copy is parked: %v", c)
	}
}

// pullFor lets the honest clients pull for a while, and measures them.
func (s *stage) pullFor(d time.Duration) *phase {
	s.honest.refresh()
	end := time.Now().Add(d)
	p := &phase{}
	var all sync.WaitGroup
	all.Go(func() { s.honest.moveTags(end) })
	all.Go(func() { s.watchCopies(end, p) })
	all.Go(func() { s.bareWork(end, p) })
	for i := range honestClients {
		all.Go(func() { s.honest.pull(uint64(i), end, &p.honest) })
	}
	all.Wait()
	return p
}

// bareWork does, without the cache, the work of every pull of a new image: a request to the
// upstream, and a file that is written and synced.
func (s *stage) bareWork(end time.Time, p *phase) {
	client := s.home.web.Client()
	file := filepath.Join(s.TempDir(), "bare")
	content := make([]byte, 48<<10)
	ticker := time.NewTicker(25 * time.Millisecond)
	defer ticker.Stop()
	for time.Now().Before(end) {
		<-ticker.C
		begun := time.Now()
		resp, err := client.Head(s.home.web.URL + "/v2/team/api/manifests/v1")
		if err == nil {
			err = errors.Join(resp.Body.Close(), writeSynced(file, content))
		}
		if err != nil {
			s.wrong.add("the bare work: %v", err)
		}
		p.bare.add(time.Since(begun))
	}
	client.CloseIdleConnections()
}

func writeSynced(name string, content []byte) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

// newClient makes a client with connections of its own.
func newClient() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 2}}
}
