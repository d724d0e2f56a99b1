// Package mirror reads content of upstream hosts from mirrors of them.
//
// The host itself says which digest a tag stands for: a mirror may be behind, and a tag must
// not move back because another mirror answers. Content by digest cannot be wrong without
// being noticed, so mirrors are asked for it in their order, and the host itself last, whose
// word is final. A mirror that does not answer, answers too late, limits requests or breaks
// off is left out for a while. Lists of tags and referrers come from the host alone.
//
// A mirror stands for the host: what it gives to a rule counts as what the host gives to it.
// It never sees the credential of the rule, but one of its own, if it has one.
package mirror

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/upstream"
)

// Patience is how long a mirror may take for an answer, connecting included, before the next
// one is asked.
const Patience = 5 * time.Second

// Mirror is a mirror of an upstream host.
type Mirror struct {
	Host   string // in canonical form
	Prefix string // what the repositories of the host are below; empty if they have the same names
	// Auth is shown to the mirror by all rules for the host. If nil, it is asked anonymously.
	Auth auth.Authenticator
	// Tags lets the mirror say what tags stand for. DANGER: a tag is then as old as the
	// mirror has it. If false, only the host itself is asked.
	Tags bool
}

// source returns what the mirror has of a source.
func (m Mirror) source(s upstream.Source) upstream.Source {
	s.Host = m.Host
	if m.Prefix != "" {
		s.Repository = m.Prefix + "/" + s.Repository
	}
	return s
}

// Upstream opens repositories that read from mirrors, too. Its exported fields must not
// change after first use. It is safe for concurrent use and must not be copied.
type Upstream struct {
	Opener upstream.Opener
	Log    *slog.Logger

	mu      sync.Mutex
	mirrors map[string][]Mirror // by canonical host
	health  map[healthKey]*health
	given   given
}

// Set replaces all mirrors, by canonical host.
func (u *Upstream) Set(all map[string][]Mirror) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.mirrors, u.health = all, nil
}

// Open opens a repository.
func (u *Upstream) Open(s upstream.Source, a auth.Authenticator) (upstream.Repository, error) {
	r, err := u.Opener.Open(s, a)
	if err != nil {
		return nil, err
	}
	return repository{r, u, s}, nil
}

// repository is a repository with mirrors.
type repository struct {
	upstream.Repository // of the host itself
	upstream            *Upstream
	source              upstream.Source
}

// Unwrap serves [upstream.As].
func (r repository) Unwrap() upstream.Repository { return r.Repository }

// isDigest reports whether a reference is a digest.
func isDigest(reference string) bool { return digest.Digest(reference).Validate() == nil }

// Resolve asks mirrors for a digest, and for a tag those that may say what tags stand for.
func (r repository) Resolve(ctx context.Context, reference string) (ocispec.Descriptor, error) {
	desc, found := ask(ctx, r, !isDigest(reference), func(ctx context.Context, m upstream.Repository) (ocispec.Descriptor, error) {
		return m.Resolve(ctx, reference)
	})
	if found {
		return desc, nil
	}
	return r.Repository.Resolve(ctx, reference)
}

// manifest is what Manifest returns.
type manifest struct {
	ocispec.Descriptor
	body []byte
}

// Manifest has the host say what a tag stands for, and mirrors give the content.
func (r repository) Manifest(ctx context.Context, reference string) (ocispec.Descriptor, []byte, error) {
	byTag := !isDigest(reference)
	if m, found := r.manifest(ctx, reference, byTag); found {
		return m.Descriptor, m.body, nil
	}
	if byTag && r.upstream.hasMirrors(r.source.Host) {
		desc, err := r.Repository.Resolve(ctx, reference)
		if err != nil && upstream.Settles(err) {
			return ocispec.Descriptor{}, nil, err
		}
		if err == nil {
			if m, found := r.manifest(ctx, desc.Digest.String(), false); found {
				return m.Descriptor, m.body, nil
			}
		}
	}
	return r.Repository.Manifest(ctx, reference)
}

// manifest asks mirrors for a manifest.
func (r repository) manifest(ctx context.Context, reference string, byTag bool) (manifest, bool) {
	return ask(ctx, r, byTag, func(ctx context.Context, m upstream.Repository) (manifest, error) {
		desc, body, err := m.Manifest(ctx, reference)
		return manifest{desc, body}, err
	})
}

// ManifestUnless asks the host, unless a mirror may say what the tag stands for.
func (r repository) ManifestUnless(ctx context.Context, reference string, known digest.Digest) (ocispec.Descriptor, []byte, error) {
	m, found := r.manifest(ctx, reference, true)
	if !found {
		if host, ok := upstream.As[upstream.Conditional](r.Repository); ok {
			return host.ManifestUnless(ctx, reference, known)
		}
		var err error
		if m.Descriptor, m.body, err = r.Repository.Manifest(ctx, reference); err != nil {
			return ocispec.Descriptor{}, nil, err
		}
	}
	if m.Digest == known {
		return ocispec.Descriptor{}, nil, upstream.ErrUnchanged
	}
	return m.Descriptor, m.body, nil
}

// StatBlob asks mirrors first.
func (r repository) StatBlob(ctx context.Context, d digest.Digest) (ocispec.Descriptor, error) {
	desc, found := ask(ctx, r, false, func(ctx context.Context, m upstream.Repository) (ocispec.Descriptor, error) {
		return m.StatBlob(ctx, d)
	})
	if found {
		return desc, nil
	}
	return r.Repository.StatBlob(ctx, d)
}

// hasMirrors reports whether a host has any.
func (u *Upstream) hasMirrors(host string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.mirrors[host]) > 0
}

// mirrorsOf returns the mirrors of a host; if byTag, those that may say what tags stand for.
func (u *Upstream) mirrorsOf(host string, byTag bool) []Mirror {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !byTag {
		return u.mirrors[host]
	}
	return slices.DeleteFunc(slices.Clone(u.mirrors[host]), func(m Mirror) bool { return !m.Tags })
}

// ask asks the mirrors of a repository in their order, until one gives what do asks it for.
func ask[T any](ctx context.Context, r repository, byTag bool, do func(context.Context, upstream.Repository) (T, error)) (got T, found bool) {
	for _, m := range r.upstream.mirrorsOf(r.source.Host, byTag) {
		if ctx.Err() != nil {
			break
		}
		call, ok := r.upstream.begin(r.source, m)
		if !ok {
			continue
		}
		limited, cancel := context.WithTimeoutCause(ctx, Patience, errSlow)
		got, err := do(limited, call.repository)
		cancel()
		call.end(ctx, err)
		if err == nil {
			return got, true
		}
	}
	return got, false
}

var errSlow = errors.New("mirror: it takes too long")
