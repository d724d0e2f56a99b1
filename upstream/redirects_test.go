package upstream_test

import (
	"errors"
	"testing"

	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// Where no redirect is to be followed, the host that one leads to is not asked.
func TestStatBlobWithoutRedirects(t *testing.T) {
	s := newSide(t)
	store := upstreamtest.NewRegistry(t)
	d := store.AddBlob("a", []byte("x"))
	s.up.Fail(upstreamtest.Fault{Redirect: store.URL() + "/v2/a/blobs/" + d.String()})
	if _, err := s.repo("a").StatBlob(upstream.WithoutRedirects(t.Context()), d); !errors.Is(err, upstream.ErrIncomplete) {
		t.Errorf("%v, want ErrIncomplete", err)
	}
	if n := store.Count("", "", ""); n != 0 {
		t.Errorf("the target of the redirect got %d requests", n)
	}
	if desc, err := s.repo("a").StatBlob(t.Context(), d); err != nil || desc.Size != 1 {
		t.Errorf("with redirects: %+v, %v", desc, err)
	}
}
