package bandwidth_test

import (
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/proxy/bandwidth"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// slowly is an opener of repositories whose blobs come in pieces with pauses.
type slowly struct {
	upstream.Repository
	pieces []string
	pause  time.Duration
}

func (s slowly) Open(upstream.Source, auth.Authenticator) (upstream.Repository, error) { return s, nil }

func (s slowly) Blob(context.Context, digest.Digest, int64, int64) (upstream.Body, error) {
	return upstream.Body{ReadCloser: io.NopCloser(&trickle{slices.Clone(s.pieces), s.pause}), Length: -1, Size: -1}, nil
}

// trickle is the reader of slowly.
type trickle struct {
	pieces []string
	pause  time.Duration
}

func (r *trickle) Read(p []byte) (int, error) {
	time.Sleep(r.pause)
	if len(r.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.pieces[0])
	if r.pieces[0] = r.pieces[0][n:]; r.pieces[0] == "" {
		r.pieces = r.pieces[1:]
	}
	return n, nil
}

// read reads a blob of an opener by a rule.
func read(ctx context.Context, o upstream.Opener, rule, host string) (int64, error) {
	repo, err := o.Open(upstream.Source{Rule: rule, Host: host, Repository: "a"}, nil)
	if err != nil {
		return 0, err
	}
	body, err := repo.Blob(ctx, digest.FromString("x"), 0, -1)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	return io.Copy(io.Discard, body)
}

// TestHostAndAll: the lower one of the limits of the host and of all hosts counts, and one of
// a host does not hold up others.
func TestHostAndAll(t *testing.T) {
	const size = 10 << 20
	blob := []string{strings.Repeat("x", size)}
	for _, test := range []struct {
		name, host string
		all        int64
		hosts      map[string]int64
		want       time.Duration
	}{
		{"none", "a.example", 0, nil, 0},
		{"all", "a.example", 1 << 20, nil, 10 * time.Second},
		{"host", "a.example", 0, map[string]int64{"a.example": 2 << 20}, 5 * time.Second},
		{"both", "a.example", 1 << 20, map[string]int64{"a.example": 2 << 20}, 10 * time.Second},
		{"another host", "b.example", 0, map[string]int64{"a.example": 2 << 20}, 0},
	} {
		inBubble(t, func(t *testing.T) {
			u := &bandwidth.Upstream{Opener: slowly{pieces: blob}, All: new(bandwidth.Limit), Hosts: new(bandwidth.Hosts)}
			u.All.Set(test.all)
			u.Hosts.Set(test.hosts)
			begun := time.Now()
			n, err := read(t.Context(), u, "r", test.host)
			if took := time.Since(begun); err != nil || n != size || took < test.want*9/10 || took > test.want*11/10 {
				t.Errorf("%s: %d bytes, %v, in %v, want %v", test.name, n, err, took, test.want)
			}
		})
	}
}

// TestHostsChange: a limit that goes lets downloads under way go on without it.
func TestHostsChange(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		u := &bandwidth.Upstream{Opener: slowly{pieces: []string{strings.Repeat("x", 100<<20)}}, Hosts: new(bandwidth.Hosts)}
		u.Hosts.Set(map[string]int64{"a.example": 1 << 20})
		time.AfterFunc(10*time.Second, func() { u.Hosts.Set(nil) })
		begun := time.Now()
		if _, err := read(t.Context(), u, "r", "a.example"); err != nil || time.Since(begun) > 11*time.Second {
			t.Errorf("%v after %v, want the end after 10 s", err, time.Since(begun))
		}
	})
}

// TestSlowUpstream: an upstream that sends too little is cut, and one that is held back here
// is not, however little comes through.
func TestSlowUpstream(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		u := &bandwidth.Upstream{Opener: slowly{pieces: strings.Split(strings.Repeat("x ", 1000), " "), pause: time.Second}}
		begun := time.Now()
		if _, err := read(t.Context(), u, "r", "a.example"); !errors.Is(err, io.ErrUnexpectedEOF) || time.Since(begun) != 30*time.Second {
			t.Errorf("%v after %v, want the end of the connection after 30 s", err, time.Since(begun))
		}
		u = &bandwidth.Upstream{Opener: slowly{pieces: []string{strings.Repeat("x", 60<<10)}}, All: new(bandwidth.Limit)}
		u.All.Set(512) // far below what the configuration allows
		begun = time.Now()
		if n, err := read(t.Context(), u, "r", "a.example"); err != nil || time.Since(begun) < 100*time.Second {
			t.Errorf("%d bytes, %v after %v", n, err, time.Since(begun))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begun = time.Now()
		if _, err := read(ctx, u, "r", "a.example"); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > 61*time.Second {
			t.Errorf("%v after %v, want the end of the call", err, time.Since(begun))
		}
	})
}

// TestAbilities: what the inner repository can do is still there.
func TestAbilities(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	img := up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1000))
	u := &bandwidth.Upstream{Opener: up.Client()}
	repo, err := u.Open(upstream.Source{Rule: "r", Host: up.Host(), Repository: "team/app"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if o, ok := upstream.As[upstream.Originator](repo); !ok || o.Origin() != up.URL() {
		t.Error("the origin is lost")
	}
	if _, ok := upstream.As[upstream.TagLister](repo); !ok {
		t.Error("the list of tags is lost")
	}
	known, ok := upstream.As[upstream.Conditional](repo)
	if !ok {
		t.Fatal("conditional requests are lost")
	}
	if _, _, err := known.ManifestUnless(t.Context(), "v1", img.Digest); !errors.Is(err, upstream.ErrUnchanged) {
		t.Errorf("%v, want that nothing has changed", err)
	}
	plain := bandwidth.Upstream{Opener: without{u}}
	bare, err := plain.Open(upstream.Source{Rule: "r", Host: up.Host(), Repository: "team/app"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	known, _ = upstream.As[upstream.Conditional](bare)
	if _, _, err := known.ManifestUnless(t.Context(), "v1", img.Digest); !errors.Is(err, upstream.ErrUnchanged) {
		t.Errorf("%v, want that nothing has changed", err)
	}
	if desc, _, err := known.ManifestUnless(t.Context(), "v1", digest.FromString("other")); err != nil || desc.Digest != img.Digest {
		t.Errorf("%v, %v", desc, err)
	}
}

// without opens repositories without optional abilities.
type without struct{ upstream.Opener }

func (w without) Open(s upstream.Source, a auth.Authenticator) (upstream.Repository, error) {
	r, err := w.Opener.Open(s, a)
	return struct{ upstream.Repository }{r}, err
}

// TestCacheDoesNotCutWhatIsHeldBack: a cache without a least rate of its own takes a limit for
// no fault of the upstream; one with a least rate above the limit does.
func TestCacheDoesNotCutWhatIsHeldBack(t *testing.T) {
	for least, want := range map[int64]bool{-1: true, 64 << 10: false} {
		inBubble(t, func(t *testing.T) {
			up := upstreamtest.NewHandler()
			img := up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1<<20))
			u := &bandwidth.Upstream{Opener: &upstream.Client{Transport: up.Transport()}, All: new(bandwidth.Limit)}
			u.All.Set(16 << 10)
			set, err := rule.NewSet(rule.Rule{Name: "local", Source: "registry.example.com/*", Target: "local/*"})
			if err != nil {
				t.Fatal(err)
			}
			c := &cache.Cache{Rules: set, Upstream: u, Limits: cache.Limits{LeastRate: least}}
			defer c.Shutdown(context.Background())
			w := httptest.NewRecorder()
			begun := time.Now()
			c.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/v2/local/team/app/blobs/"+img.Layers[0].Digest.String(), nil))
			if w.Code != 200 || int64(w.Body.Len()) != img.Layers[0].Size || time.Since(begun) < time.Minute {
				t.Errorf("status %d, %d bytes of %d after %v", w.Code, w.Body.Len(), img.Layers[0].Size, time.Since(begun))
			}
			if n := up.Count("GET", "blob", ""); (n == 1) != want {
				t.Errorf("least rate %d: %d requests", least, n)
			}
		})
	}
}
