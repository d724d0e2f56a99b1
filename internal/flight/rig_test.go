package flight

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/upstream"
)

// rig is a group over a registry and a shelf.
type rig struct {
	t     *testing.T
	up    *registry
	shelf *shelf
	g     *Group
	key   Key
	size  int64 // what the manifest says

	mu     sync.Mutex
	failed []error
}

// noise is what blobs are made of.
var noise = sync.OnceValue(func() []byte {
	data := make([]byte, 80<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	return data
})

// blobOf returns n bytes that are not all the same.
func blobOf(n int) []byte { return noise()[:n:n] }

func digestOf(data []byte) digest.Digest { return digest.FromBytes(data) }

func newRig(t *testing.T, size int) *rig {
	r := &rig{t: t, up: &registry{data: blobOf(size), latency: time.Millisecond}, size: int64(size)}
	r.shelf = &shelf{t: t}
	r.key = Key{Source: upstream.Source{Rule: "r", Host: "h", Repository: "a/b"}, Digest: digest.FromBytes(r.up.data)}
	r.g = r.group()
	t.Cleanup(func() { r.close() })
	return r
}

func (r *rig) group() *Group {
	return &Group{
		Downloads: 8, PerHost: 8, Orphan: 1 << 40, Idle: 30 * time.Second, Answer: 20 * time.Second, Busy: 15 * time.Second,
		StoreFailed: func(_ Key, err error) {
			r.mu.Lock()
			r.failed = append(r.failed, err)
			r.mu.Unlock()
		},
	}
}

// close ends the group and checks that nothing is left over.
func (r *rig) close() {
	r.t.Helper()
	if err := r.g.Close(context.Background()); err != nil {
		r.t.Errorf("Close: %v", err)
	}
	r.up.mu.Lock()
	defer r.up.mu.Unlock()
	if r.up.open != 0 {
		r.t.Errorf("%d bodies are not closed", r.up.open)
	}
	r.shelf.check()
}

func (r *rig) request() Request {
	return Request{
		Key: r.key, Size: r.size,
		Open: func(ctx context.Context) (upstream.Repository, error) {
			r.up.mu.Lock()
			r.up.opens++
			r.up.mu.Unlock()
			if ctx.Value(clientKey{}) != nil {
				r.t.Error("a client's values entered the flight")
			}
			if r.up.gone != nil {
				if err := r.up.gone(); err != nil {
					return nil, err
				}
			}
			return r.up, nil
		},
		Spool: r.shelf.spool,
	}
}

type clientKey struct{}

func client() context.Context { return context.WithValue(context.Background(), clientKey{}, 1) }

func (r *rig) join(job bool) *Handle {
	r.t.Helper()
	req := r.request()
	req.Job = job
	h, err := r.g.Join(client(), req)
	if err != nil {
		r.t.Fatalf("Join: %v", err)
	}
	return h
}

// get pulls the whole blob as the cache does.
func (r *rig) get() ([]byte, error) {
	var w bytes.Buffer
	err := r.getTo(&w)
	return w.Bytes(), err
}

func (r *rig) getTo(w io.Writer) error {
	h, err := r.g.Join(client(), r.request())
	if err != nil {
		return err
	}
	defer h.Close()
	size, err := h.Header(client())
	if err != nil {
		return err
	}
	_, err = h.Send(client(), w, nil, 0, size, true)
	return err
}

// cut pulls n bytes from off on.
func (r *rig) cut(off, n int64) ([]byte, error) {
	h := r.join(false)
	defer h.Close()
	if _, err := h.Header(client()); err != nil {
		return nil, err
	}
	var w bytes.Buffer
	_, err := h.Send(client(), &w, nil, off, n, false)
	return w.Bytes(), err
}

// want pulls the blob and checks it.
func (r *rig) want() {
	r.t.Helper()
	got, err := r.get()
	if err != nil || !bytes.Equal(got, r.up.data) {
		r.t.Errorf("got %d bytes of %d, right %v, err %v", len(got), len(r.up.data), bytes.Equal(got, r.up.data), err)
	}
}

// idle waits until no flight is left.
func (r *rig) idle() {
	r.t.Helper()
	for range 1000 {
		synctest.Wait()
		if r.g.Len() == 0 {
			return
		}
		time.Sleep(time.Second)
	}
	r.t.Fatal("a flight does not end")
}

// wantStored checks what was committed.
func (r *rig) wantStored(want bool) {
	r.t.Helper()
	r.idle()
	r.shelf.mu.Lock()
	defer r.shelf.mu.Unlock()
	switch stored := r.shelf.stored; {
	case !want && stored != nil:
		r.t.Errorf("%d bytes were committed", len(stored))
	case want && !bytes.Equal(stored, r.up.data):
		r.t.Errorf("%d bytes were committed, and they are not right", len(stored))
	}
}

func (r *rig) wantConnections(n int) {
	r.t.Helper()
	r.up.mu.Lock()
	defer r.up.mu.Unlock()
	if len(r.up.asked) != n {
		r.t.Errorf("%d connections: %v; want %d", len(r.up.asked), r.up.asked, n)
	}
}

// wantOnce checks that no byte was sent twice.
func (r *rig) wantOnce() {
	r.t.Helper()
	r.up.mu.Lock()
	defer r.up.mu.Unlock()
	slices.SortFunc(r.up.sent, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	at := int64(0)
	for _, s := range r.up.sent {
		if s.start != at {
			r.t.Errorf("sent up to %d and then from %d: %v", at, s.start, r.up.asked)
		}
		at = s.end
	}
}

func (r *rig) wantClass(err error, want upstream.Class) {
	r.t.Helper()
	if c, ok := upstream.ClassOf(err); !ok || c != want {
		r.t.Errorf("error %v; want class %v", err, want)
	}
}

// story runs f where time is fake and a goroutine that is left over is an error.
func story(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}
