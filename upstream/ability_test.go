package upstream_test

import (
	"context"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/upstream"
)

// counting is a Repository of an embedder's that counts the manifests it is asked for.
type counting struct {
	wrapped
	manifests int
}

func (c *counting) Manifest(ctx context.Context, reference string) (ocispec.Descriptor, []byte, error) {
	c.manifests++
	return c.wrapped.Manifest(ctx, reference)
}

// conditional is one that has the ability itself.
type conditional struct{ *counting }

func (c conditional) ManifestUnless(ctx context.Context, reference string, _ digest.Digest) (ocispec.Descriptor, []byte, error) {
	return c.Manifest(ctx, reference)
}

// A wrapper that overrides Manifest sees every manifest that is asked for.
func TestAWrapperIsNotBypassed(t *testing.T) {
	s := newSide(t)
	img := s.up.AddImage("a", "v1", nil)
	// ask fetches a manifest in the way of package cache.
	ask := func(r upstream.Repository) {
		var err error
		if c, ok := upstream.As[upstream.Conditional](r); ok {
			_, _, err = c.ManifestUnless(t.Context(), "v1", digest.FromString("another"))
		} else {
			_, _, err = r.Manifest(t.Context(), "v1")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	c := &counting{wrapped: wrapped{s.repo("a")}}
	for _, r := range []upstream.Repository{c, wrapped{c}, conditional{c}} {
		c.manifests = 0
		if ask(r); c.manifests != 1 {
			t.Errorf("%T saw %d manifests, want 1", r, c.manifests)
		}
	}
	if _, ok := upstream.As[upstream.Conditional](wrapped{conditional{c}}); ok {
		t.Error("the ability of an inner Repository takes the place of the wrapper's Manifest")
	}
	if found, ok := upstream.As[*counting](wrapped{wrapped{c}}); !ok || found != c {
		t.Error("a type of the embedder's is not found")
	}
	inner, ok := upstream.As[upstream.Conditional](s.repo("a"))
	if !ok {
		t.Fatal("a Client's Repository is not Conditional")
	}
	if _, _, err := inner.ManifestUnless(t.Context(), "v1", img.Digest); err != upstream.ErrUnchanged {
		t.Errorf("%v, want ErrUnchanged", err)
	}
}

// traced is an authenticator of an embedder's that adds something to another one.
type traced struct{ auth.Authenticator }

func (w traced) Unwrap() auth.Authenticator { return w.Authenticator }

// A wrapped authenticator is told that its credential was refused, and how it was taken.
func TestWrappedAuthenticatorsAreTold(t *testing.T) {
	s := newSide(t)
	s.up.AddImage("a", "v1", nil)
	s.up.RequireLogin(users, nil)
	r := &renewer{keeper: keeper{cred: password("alice", "old")}, next: password("alice", "hunter2")}
	if _, _, err := s.as("rule", "a", traced{traced{r}}).Manifest(t.Context(), "v1"); err != nil || r.asked != 1 {
		t.Errorf("%v; told %d times, want once", err, r.asked)
	}
	o := &observer{keeper: keeper{cred: password("alice", "hunter2")}}
	if _, _, err := s.as("other", "a", traced{o}).Manifest(t.Context(), "v1"); err != nil || o.accepted != 1 {
		t.Errorf("%v; told %d times, want once", err, o.accepted)
	}
}
