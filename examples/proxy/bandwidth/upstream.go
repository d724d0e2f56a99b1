package bandwidth

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/upstream"
)

const (
	// slowest is how many bytes per second a connection must bring over patience, without
	// the time for which it was held back here. Below it, it counts as cut.
	slowest  = 1 << 10
	patience = 30 * time.Second
)

// Upstream opens repositories whose blobs are read within limits, which rules share fairly.
// Manifests and lists are small and pass. It has a least rate for connections of its own,
// which does not count the time for which they are held back here: set
// cache.Limits.LeastRate to a negative number with it. It is safe for concurrent use.
type Upstream struct {
	Opener upstream.Opener
	// All limits what all upstreams send together. If nil, it is not limited.
	All *Limit
	// Hosts limits what single hosts send. If nil, it is not limited.
	Hosts *Hosts
}

// Open opens a repository.
func (u *Upstream) Open(s upstream.Source, a auth.Authenticator) (upstream.Repository, error) {
	r, err := u.Opener.Open(s, a)
	if err != nil {
		return nil, err
	}
	return repository{r, u, s}, nil
}

// repository is a repository whose blobs are limited.
type repository struct {
	upstream.Repository
	limits *Upstream
	source upstream.Source
}

// Unwrap serves [upstream.As].
func (r repository) Unwrap() upstream.Repository { return r.Repository }

// ManifestUnless passes the ability on, or does without.
func (r repository) ManifestUnless(ctx context.Context, reference string, known digest.Digest) (ocispec.Descriptor, []byte, error) {
	if inner, ok := upstream.As[upstream.Conditional](r.Repository); ok {
		return inner.ManifestUnless(ctx, reference, known)
	}
	desc, body, err := r.Manifest(ctx, reference)
	if err == nil && desc.Digest == known {
		return ocispec.Descriptor{}, nil, upstream.ErrUnchanged
	}
	return desc, body, err
}

// Blob opens a blob that is read within the limits.
func (r repository) Blob(ctx context.Context, d digest.Digest, offset, length int64) (upstream.Body, error) {
	body, err := r.Repository.Blob(ctx, d, offset, length)
	if err == nil {
		body.ReadCloser = &limited{ReadCloser: body.ReadCloser, ctx: ctx, rule: r.source.Rule, limits: [2]*Limit{r.limits.Hosts.of(r.source.Host), r.limits.All}}
	}
	return body, err
}

// limited is a body that is read within limits, by one goroutine.
type limited struct {
	io.ReadCloser
	ctx    context.Context
	rule   string
	limits [2]*Limit     // that of the host comes first: who waits for it holds up nobody else
	waited time.Duration // for the upstream, since the last judgement
	came   int64         // what it brought meanwhile
}

// Read reads a piece and waits until it may pass.
func (b *limited) Read(p []byte) (int, error) {
	for _, l := range b.limits {
		if piece := l.Piece(); piece > 0 {
			p = p[:min(len(p), piece)]
		}
	}
	began := time.Now()
	n, err := b.ReadCloser.Read(p)
	if slow := b.judge(n, time.Since(began)); err == nil {
		err = slow
	}
	for _, l := range b.limits {
		if ended := l.Take(b.ctx, b.rule, n); ended != nil && err == nil {
			err = ended
		}
	}
	return n, err
}

// judge returns an error if the upstream sends too little.
func (b *limited) judge(n int, took time.Duration) error {
	b.waited += took
	b.came += int64(n)
	if b.waited < patience {
		return nil
	}
	if float64(b.came) < slowest*b.waited.Seconds() {
		return fmt.Errorf("bandwidth: the upstream sent %d bytes in %v: %w", b.came, b.waited.Round(time.Second), io.ErrUnexpectedEOF)
	}
	b.waited, b.came = 0, 0
	return nil
}

// Hosts holds the limits of upstream hosts. The zero value has none. It is safe for
// concurrent use.
type Hosts struct {
	mu    sync.Mutex
	limit map[string]*Limit
}

// Set replaces all limits, by canonical host in bytes per second, also for downloads that
// are under way from a host that had one.
func (h *Hosts) Set(all map[string]int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for host, l := range h.limit {
		l.Set(all[host])
	}
	for _, host := range slices.Sorted(maps.Keys(all)) {
		if h.limit[host] != nil {
			continue
		}
		if h.limit == nil {
			h.limit = map[string]*Limit{}
		}
		h.limit[host] = new(Limit)
		h.limit[host].Set(all[host])
	}
}

// of returns the limit of a host, or nil if it has none.
func (h *Hosts) of(host string) *Limit {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.limit[host]
}
