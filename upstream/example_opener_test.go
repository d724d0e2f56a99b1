package upstream_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// audited is an Opener whose repositories say which manifests they are asked for.
type audited struct {
	upstream.Opener
	out io.Writer
}

// Open implements upstream.Opener.
func (a audited) Open(s upstream.Source, who auth.Authenticator) (upstream.Repository, error) {
	r, err := a.Opener.Open(s, who)
	if err != nil {
		return nil, err
	}
	return &auditedRepository{r, s, a.out}, nil
}

type auditedRepository struct {
	upstream.Repository
	source upstream.Source
	out    io.Writer
}

// Manifest implements upstream.Repository. It sees every manifest: ManifestUnless of
// the inner Repository is not found through Unwrap.
func (r *auditedRepository) Manifest(ctx context.Context, reference string) (ocispec.Descriptor, []byte, error) {
	desc, body, err := r.Repository.Manifest(ctx, reference)
	_, _ = fmt.Fprintf(r.out, "rule %s: manifest %s of %s: %v\n", r.source.Rule, reference, r.source.Repository, err)
	return desc, body, err
}

// Unwrap implements upstream.Unwrapper, so that lists of tags and referrers and the
// origin are found.
func (r *auditedRepository) Unwrap() upstream.Repository { return r.Repository }

// An Opener of one's own, around a Client: it goes to the field Upstream of a Cache.
func ExampleOpener() {
	registry, err := upstreamtest.Start()
	if err != nil {
		log.Fatal(err)
	}
	defer registry.Close()
	registry.AddImage("library/alpine", "3.20", nil)

	opener := audited{registry.Client(), os.Stdout}
	r, err := opener.Open(upstream.Source{Rule: "hub", Host: registry.Host(), Repository: "library/alpine"}, nil)
	if err != nil {
		log.Fatal(err)
	}
	if _, _, err := r.Manifest(context.Background(), "3.20"); err != nil {
		log.Fatal(err)
	}
	lister, ok := upstream.As[upstream.TagLister](r)
	if !ok {
		log.Fatal("without tags")
	}
	page, err := lister.Tags(context.Background(), nil)
	fmt.Println(page.Tags, err)
	// Output:
	// rule hub: manifest 3.20 of library/alpine: <nil>
	// [3.20] <nil>
}
