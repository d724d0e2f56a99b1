package cache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/upstream"
)

// manifest is a verified manifest with its headers made. It never changes, but for
// when it was read.
type manifest struct {
	desc   ocispec.Descriptor
	body   []byte // nil: only the descriptor is known
	source string
	parsed *oci.Manifest // nil: only the descriptor is known
	length []string
	digest []string
	etag   []string
	ctype  []string
	read   atomic.Int64 // when a client asked for its content by digest last, in unix nanoseconds
}

func newManifest(desc ocispec.Descriptor, body []byte, source string) *manifest {
	m := &manifest{desc: ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}, body: body, source: source}
	m.length = []string{strconv.FormatInt(desc.Size, 10)}
	m.digest = []string{desc.Digest.String()}
	m.etag = []string{`"` + desc.Digest.String() + `"`}
	m.ctype = []string{desc.MediaType}
	if body != nil {
		var err error
		if m.parsed, err = oci.Parse(desc.MediaType, body); err != nil {
			m.parsed = &oci.Manifest{Bad: err}
		}
	}
	return m
}

// answer is what a pull of a manifest comes to.
type answer struct {
	man    *manifest
	err    error
	remote bool   // it comes from the upstream, not from a complete copy
	state  string // Cache-Status without our name
	asked  time.Time
	same   bool  // the tag is what is stored
	stale  error // why what is stored is served unchecked; nil: it is not
}

// question is what an upstream is asked about a tag.
type question struct {
	content tagKey
	source  upstream.Source
	loop    string // see place
	head    bool
}

// fetchKey is a manifest that is being fetched. Who comes with another
// credential does not share it.
type fetchKey struct {
	content
	source     string
	loop       string
	generation uint64
}

// byDigest answers a pull by digest: complete here, being copied, read before, or
// from the upstream. It asks the upstream only in the last case.
func (e *engine) byDigest(ctx context.Context, p place, d digest.Digest, head bool) answer {
	a := e.findDigest(ctx, p, d, head)
	if !head && a.err == nil {
		a.man.read.Store(time.Now().UnixNano())
	}
	return a
}

func (e *engine) findDigest(ctx context.Context, p place, d digest.Digest, head bool) answer {
	if man := e.complete(ctx, p, d); man != nil {
		e.sighted(p, man)
		return answer{man: man, state: "hit"}
	}
	if man := e.jobs.manifest(p, d); man != nil {
		if !head {
			e.submit(p, man)
		}
		return answer{man: man, remote: true, state: "hit; detail=copying"}
	}
	if p.match == nil {
		return answer{err: errNoRule}
	}
	if man := e.readBefore(ctx, p, d); man != nil {
		if !head {
			e.submit(p, man)
		}
		return answer{man: man, remote: true, state: "hit; detail=read"}
	}
	if err := e.barred(p); err != nil {
		return answer{err: err, state: fwd("miss", err)}
	}
	if err := e.absentNow(p, kindManifest, d); err != nil {
		return answer{err: err, state: "miss; detail=absent"}
	}
	// One download for all who want it; who only asks for the head asks alone.
	refused := head && !e.headRefused(p, kindManifest)
	if refused {
		if a, settled := e.headDigest(ctx, p, d); settled {
			return a
		}
	}
	a, err := e.fetches.Share(ctx, fetchKey{content{p.repo, d}, p.source, p.loop, p.match.Generation}, func(wanted context.Context) answer {
		release, err := e.turn(wanted, &e.asking, p, false)
		if err != nil {
			return answer{err: err}
		}
		defer release()
		man, err := e.fetch(p, d.String())
		e.noteMissing(p, d, err)
		e.noteAbsent(p, kindManifest, d, err)
		if err == nil && refused {
			e.refusesHead(p, kindManifest)
		}
		if err == nil && !head {
			e.submit(p, man)
		}
		return answer{man: man, err: err, remote: true, state: fwd("miss", err)}
	})
	if err != nil {
		return answer{err: err}
	}
	return a
}

// headDigest asks for a digest by HEAD, on the client's request; settled: that is the
// answer.
func (e *engine) headDigest(ctx context.Context, p place, d digest.Digest) (a answer, settled bool) {
	release, err := e.turn(ctx, &e.asking, p, false)
	if err != nil {
		return answer{err: err}, true
	}
	defer release()
	ctx, cancel := e.within(ctx)
	defer cancel()
	desc, err := e.looped(p).Resolve(ctx, d.String())
	if err = p.slow(ctx, err); !upstream.Settles(err) {
		return answer{}, false
	}
	e.heard(p, err)
	e.noteAbsent(p, kindManifest, d, err)
	return answer{man: newManifest(desc, nil, p.source), err: err, remote: true, state: fwd("miss", err)}, true
}

// fetch gets a manifest from the upstream, on nobody's request.
func (e *engine) fetch(p place, reference string) (*manifest, error) {
	return e.fetchUnless(e.ctx, p, reference, nil)
}

// fetchUnless is fetch, but [upstream.ErrUnchanged] if the upstream can say that it
// is the known one; nil: none is known.
func (e *engine) fetchUnless(ctx context.Context, p place, reference string, known *manifest) (*manifest, error) {
	ctx, cancel := e.within(ctx)
	defer cancel()
	defer context.AfterFunc(e.ctx, cancel)()
	if e.ctx.Err() != nil {
		return nil, errShutdown
	}
	p, err := e.current(ctx, p)
	if err != nil {
		return nil, err
	}
	var desc ocispec.Descriptor
	var body []byte
	if c, ok := upstream.As[upstream.Conditional](p.up); ok && known != nil {
		desc, body, err = c.ManifestUnless(e.withLoop(ctx, p), reference, known.desc.Digest)
	} else {
		desc, body, err = e.looped(p).Manifest(ctx, reference)
	}
	if errors.Is(err, upstream.ErrUnchanged) {
		e.heard(p, nil)
		return nil, err
	}
	err = p.slow(ctx, err)
	e.heard(p, err)
	if err != nil {
		return nil, err
	}
	e.stats.manifestsFetched.Add(1)
	man := newManifest(desc, body, p.source)
	if man.parsed.Bad != nil {
		e.log.Warn("a manifest cannot be parsed; it is passed on and not copied", "repository", p.repo, "digest", desc.Digest.String(), "err", man.parsed.Bad)
	}
	e.learn(p, man)
	return man, nil
}

// cost is what a manifest holds in memory, about: its bytes, and what was read of them,
// whose texts are copies and whose descriptors are larger than the shortest text of one.
func (m *manifest) cost() int64 {
	cost := 512 + 2*int64(len(m.body))
	if m.parsed != nil {
		cost += int64(len(m.parsed.Layers)+len(m.parsed.Manifests)) * 256
	}
	return cost
}

// complete returns a manifest that is complete here, nil if it is not.
func (e *engine) complete(ctx context.Context, p place, d digest.Digest) *manifest {
	k := content{p.repo, d}
	if man, ok := e.hot.Get(k); ok && p.ours(man.source) {
		return man
	}
	era := e.deleted.era.Load()
	info, err := e.store.Stat(ctx, p.repo, d)
	if err != nil || !info.IsManifest() || !p.ours(info.Source) || info.Size > upstream.MaxManifestSize {
		return nil
	}
	info, r, err := e.store.Open(ctx, p.repo, d)
	if err != nil {
		return nil
	}
	defer r.Close()
	body, err := io.ReadAll(io.LimitReader(r, upstream.MaxManifestSize+1))
	if err != nil && ctx.Err() != nil {
		return nil // nobody waits for it, which is no trouble of the store
	}
	if err != nil || d.Algorithm().FromBytes(body) != d {
		e.log.Error("a stored manifest cannot be read or is damaged; it counts as missing", "repository", p.repo, "digest", d.String(), "err", err)
		return nil
	}
	info.Size = int64(len(body))
	man := newManifest(info.Descriptor, body, info.Source)
	e.remember(p, man)
	if e.deleted.era.Load() != era { // perhaps this one
		e.hot.Delete(k)
	}
	return man
}

// remember keeps a complete manifest in memory.
func (e *engine) remember(p place, man *manifest) {
	e.learn(p, man)
	e.hot.Put(content{p.repo, man.desc.Digest}, man, man.cost())
}

// fwd is a Cache-Status for something that was forwarded for a reason, with
// what came of it.
func fwd(reason string, err error) string {
	state := "fwd=" + reason
	var u *upstream.Error
	switch {
	case err == nil:
		return state + "; fwd-status=200"
	case !errors.As(err, &u):
		return state
	case u.Status != 0:
		return state + "; fwd-status=" + strconv.Itoa(u.Status)
	case u.Timeout:
		return state + "; detail=timeout"
	}
	return state + "; detail=" + string(bytes.ReplaceAll([]byte(u.Class.String()), []byte(" "), []byte("-")))
}
