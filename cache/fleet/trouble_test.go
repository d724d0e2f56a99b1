package fleet_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/fleet"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// line is the way from a replica to the others, which a test may spoil.
type line struct {
	http.RoundTripper
	mu    sync.Mutex
	spoil func(resp *http.Response) // may change what another replica answers
	block map[string]bool           // addresses that do not answer
}

func newLine() *line {
	return &line{RoundTripper: &http.Transport{DisableCompression: true}, block: map[string]bool{}}
}

// RoundTrip implements [http.RoundTripper].
func (l *line) RoundTrip(r *http.Request) (*http.Response, error) {
	l.mu.Lock()
	spoil, blocked := l.spoil, l.block[r.URL.Host]
	l.mu.Unlock()
	if blocked {
		<-r.Context().Done()
		return nil, context.Cause(r.Context())
	}
	resp, err := l.RoundTripper.RoundTrip(r)
	if err == nil && spoil != nil {
		spoil(resp)
	}
	return resp, err
}

func (l *line) set(edit func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	edit()
}

// spoiledFleet starts replicas whose lines to one another a test may spoil, and returns them
// in the order of their ranks for a blob.
func spoiledFleet(t *testing.T, up *upstreamtest.Registry, n int, d digest.Digest, edit func(r *replica)) ([]*replica, []*line) {
	t.Helper()
	all := fleetOf(t, up, n, func(_ int, r *replica) {
		l := newLine()
		t.Cleanup(l.RoundTripper.(*http.Transport).CloseIdleConnections)
		r.Fleet.Transport = l
		r.Cache.Limits = cache.Limits{IdleTimeout: 3 * time.Second, Segments: 1}
		if edit != nil {
			edit(r)
		}
	})
	match, err := all[0].rules.Match(t.Context(), "mirror/app")
	if err != nil {
		t.Fatal(err)
	}
	byAddress := map[string]*replica{}
	var addresses []string
	for _, r := range all {
		byAddress[r.address] = r
		addresses = append(addresses, r.address)
	}
	var sorted []*replica
	var lines []*line
	for _, a := range fleet.Rank(addresses, match.Source, d) {
		sorted = append(sorted, byAddress[a])
		lines = append(lines, byAddress[a].Fleet.Transport.(*line))
	}
	return sorted, lines
}

// nothingLeft waits until no replica says that a blob is under way.
func nothingLeft(t *testing.T, all []*replica) {
	t.Helper()
	for _, r := range all {
		until(t, func() bool { return len(r.Blobs()) == 0 })
		if b := r.Blobs(); len(b) > 0 {
			t.Errorf("left over: %+v", b)
		}
	}
}

// someSeemedDead reports whether a question between replicas was not answered in time, which
// happens on a busy machine: then some fetch for themselves.
func someSeemedDead(t *testing.T, all []*replica) bool {
	t.Helper()
	var failures int64
	for _, r := range all {
		failures += r.Fleet.Stats().Failures
	}
	if failures > 0 {
		t.Logf("%d questions between replicas were not answered in time", failures)
	}
	return failures > 0
}

// cutAt ends the body of an answer after some bytes.
func cutAt(n int64) func(resp *http.Response) {
	return func(resp *http.Response) {
		resp.Body = bodyOf{io.MultiReader(io.LimitReader(resp.Body, n), readerFunc(func([]byte) (int, error) { return 0, io.ErrUnexpectedEOF })), resp.Body}
	}
}

type bodyOf struct {
	io.Reader
	io.Closer
}

// once spoils the first answer with a body, and tells where it was.
func once(spoil func(resp *http.Response)) func(resp *http.Response) {
	var first sync.Once
	return func(resp *http.Response) {
		if resp.Request.Method == http.MethodGet && resp.StatusCode < 300 && resp.ContentLength != 0 {
			first.Do(func() { spoil(resp) })
		}
	}
}

// The connection to the replica that fetches the blob is cut, wherever: the client gets all
// bytes, and the upstream sends the blob once, or once more what was missing.
func TestCutAnywhere(t *testing.T) {
	const size = 1 << 20
	for _, at := range []int64{0, 1, 64 << 10, size / 2, size - 64<<10, size - 1} {
		up := upstreamtest.NewRegistry(t)
		body := upstreamtest.Bytes(uint64(at), size)
		d := up.AddBlob("team/app", body)
		up.PaceEach(4 << 20)
		all, lines := spoiledFleet(t, up, 3, d, nil)
		lines[1].set(func() { lines[1].spoil = once(cutAt(at)) })
		pullAll(t, all, 2, d, body)
		if n := up.BlobBytes(d); n < size || n > 2*size-at {
			t.Errorf("cut at %d: the upstream sent %d bytes of %d", at, n, size)
		}
		nothingLeft(t, all)
	}
}

// What another replica sends instead of the blob does no harm: no client has a clean end of
// wrong bytes, and the next pull gets the right ones.
func TestReplicaThatLies(t *testing.T) {
	const size = 300 << 10
	type lie func(resp *http.Response)
	header := func(name, value string) lie { return func(resp *http.Response) { resp.Header.Set(name, value) } }
	flip := lie(func(resp *http.Response) {
		at := int64(0)
		body := resp.Body
		resp.Body = bodyOf{readerFunc(func(p []byte) (int, error) {
			n, err := body.Read(p)
			if at <= 1000 && 1000 < at+int64(n) {
				p[1000-at] ^= 1
			}
			at += int64(n)
			return n, err
		}), body}
	})
	longer := func(announced int64) lie {
		return func(resp *http.Response) {
			resp.ContentLength = announced
			resp.Body = bodyOf{io.MultiReader(resp.Body, io.LimitReader(zeros{}, 8<<20)), resp.Body}
		}
	}
	for name, c := range map[string]struct {
		lie lie
		ok  bool // for the client that hears it
	}{
		"a wrong bit":                   {flip, false},
		"another ETag":                  {header("Etag", `"other"`), true},
		"another Docker-Content-Digest": {header("Docker-Content-Digest", digest.FromString("x").String()), true},
		"another Content-Type":          {header("Content-Type", "text/html"), true},
		"Content-Encoding":              {header("Content-Encoding", "gzip"), true},
		"too short, in good order":      {func(resp *http.Response) { resp.Body = bodyOf{io.LimitReader(resp.Body, 1000), resp.Body} }, true},
		"too short, and says so": {func(resp *http.Response) {
			resp.ContentLength = 1000
			resp.Body = bodyOf{io.LimitReader(resp.Body, 1000), resp.Body}
		}, false},
		"no length":                      {func(resp *http.Response) { resp.ContentLength = -1 }, true},
		"endless, without a length":      {longer(-1), false},
		"endless, with the right length": {longer(size), false},
		"endless, and says so":           {longer(8 << 20), false},
		"a part": {func(resp *http.Response) {
			resp.StatusCode = 206
			resp.Header.Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", size-1, size))
		}, true},
		"a part of something larger": {func(resp *http.Response) {
			resp.StatusCode = 206
			resp.Header.Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", size-1, 10*size))
		}, false},
		"another part": {func(resp *http.Response) {
			resp.StatusCode = 206
			resp.Header.Set("Content-Range", fmt.Sprintf("bytes 1-%d/%d", size, 2*size))
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			up := upstreamtest.NewRegistry(t)
			body := upstreamtest.Bytes(7, size)
			d := up.AddBlob("team/app", body)
			all, lines := spoiledFleet(t, up, 2, d, nil)
			pullAll(t, all[:1], 1, d, body)
			lines[1].set(func() {
				lines[1].spoil = func(resp *http.Response) {
					if resp.Request.Method == http.MethodGet {
						c.lie(resp)
					}
				}
			})
			got, _, err := all[1].pull(t.Context(), "mirror/app", d)
			if err == nil && !bytes.Equal(got, body) {
				t.Fatalf("%d wrong bytes and a clean end", len(got))
			}
			if c.ok && err != nil {
				t.Errorf("no bytes: %v", err)
			}
			got, _, err = all[1].pull(t.Context(), "mirror/app", d)
			if err != nil || !bytes.Equal(got, body) {
				t.Errorf("the second pull: %d bytes, %v", len(got), err)
			}
			if n := up.BlobBytes(d); n > 3*size {
				t.Errorf("the upstream sent %d bytes of %d", n, size)
			}
			nothingLeft(t, all)
		})
	}
}

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// rotten is a store one of whose blobs has changed, once it is damaged.
type rotten struct {
	*store.Mem
	damaged atomic.Bool
}

// Open implements [store.Content].
func (r *rotten) Open(ctx context.Context, repo string, d digest.Digest) (store.Info, io.ReadSeekCloser, error) {
	info, f, err := r.Mem.Open(ctx, repo, d)
	if err != nil || !r.damaged.Load() {
		return info, f, err
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	data[len(data)/2] ^= 1
	return info, rottenFile{bytes.NewReader(data)}, err
}

type rottenFile struct{ *bytes.Reader }

func (rottenFile) Close() error { return nil }

// A replica whose store is damaged sends wrong bytes: the first pull elsewhere breaks off,
// and the second is right.
func TestDamagedElsewhere(t *testing.T) {
	const size = 300 << 10
	up := upstreamtest.NewRegistry(t)
	body := upstreamtest.Bytes(8, size)
	d := up.AddBlob("team/app", body)
	all, _ := spoiledFleet(t, up, 3, d, func(r *replica) { r.Cache.Store = &rotten{Mem: &store.Mem{}} })
	pullAll(t, all[:1], 1, d, body)
	all[0].Cache.Store.(*rotten).damaged.Store(true)
	for _, r := range all[1:] {
		if got, _, err := r.pull(t.Context(), "mirror/app", d); err == nil {
			t.Errorf("%d bytes and a clean end", len(got))
		}
		if got, _, err := r.pull(t.Context(), "mirror/app", d); err != nil || !bytes.Equal(got, body) {
			t.Errorf("the second pull: %d bytes, %v", len(got), err)
		}
	}
	nothingLeft(t, all)
}
