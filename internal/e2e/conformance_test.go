package e2e

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/store"
)

// suiteRepository is the repository that the conformance suite fills at the registry.
const suiteRepository = "conformance/content"

// TestConformance runs OCI's conformance suite, as far as it only reads, on a plain registry
// and then on the proxy in front of that registry: with an empty store, and with everything
// stored. What passes on the registry has to pass on the proxy, as often and under the same
// name. The suite itself makes the content: images, nested indexes, artifacts, subjects,
// unknown types, an empty blob. One registry has no referrers API, the other one has it.
func TestConformance(t *testing.T) {
	suite := tool(t, "conformance")
	registry := startRegistry(t)
	content := makeContent(t, suite, registry)
	t.Run("without referrers API", func(t *testing.T) {
		content.conforms(t, suite, registry)
	})
	t.Run("with referrers API", func(t *testing.T) {
		server := httptest.NewServer(ggcr.New(ggcr.WithReferrersSupport(true), ggcr.Logger(log.New(io.Discard, "", 0))))
		t.Cleanup(server.Close)
		other := strings.TrimPrefix(server.URL, "http://")
		content.copy(t, registry, other).conforms(t, suite, other)
	})
}

// conforms runs the suite on a registry that has the content, and on the proxy in front of it.
func (c *suiteContent) conforms(t *testing.T, suite, registry string) {
	t.Helper()
	plain := c.read(t, suite, registry, suiteRepository)
	s := startProxy(t, &source{registry: registry, wire: newWire(t, registry)})
	cold := c.read(t, suite, s.host, "hub/"+suiteRepository)
	cold.wantAll(t, "with an empty store", plain)
	if n := blobsRead(s.wire.take()); n < len(c.blobs) {
		t.Errorf("%d of %d blobs were read at the upstream, so the store was not empty", n, len(c.blobs))
	}
	c.wantReferrers(t, registry, s.host)
	c.settle(t, s)
	s.wire.take()

	warm := c.read(t, suite, s.host, "hub/"+suiteRepository)
	warm.wantAll(t, "with everything stored", plain)
	if log := s.wire.take(); blobsRead(log) > 0 {
		t.Errorf("blobs were read at the upstream, so not everything was stored:%s", show(log))
	}
	t.Logf("plain registry: %s; proxy with an empty store: %s; with everything stored: %s", plain, cold, warm)
	s.wantGentleEnd(t)
}

// read runs the checks of the suite that only read.
func (c *suiteContent) read(t *testing.T, suite, host, repository string) checks {
	t.Helper()
	return runSuite(t, suite, host, repository,
		"OCI_API_PUSH=false",
		"OCI_RO_DATA_TAGS="+strings.Join(c.tags, " "),
		"OCI_RO_DATA_MANIFESTS="+strings.Join(c.manifests, " "),
		"OCI_RO_DATA_BLOBS="+strings.Join(c.blobs, " "),
		"OCI_RO_DATA_REFERRERS="+strings.Join(c.manifests, " "))
}

// wantReferrers compares the lists of referrers, of which the suite knows no content when it
// only reads. A registry without the API has no list.
func (c *suiteContent) wantReferrers(t *testing.T, registry, host string) {
	t.Helper()
	for _, m := range c.manifests {
		status, _, want := getAll(t, "http://"+registry+"/v2/"+suiteRepository+"/referrers/"+m)
		if status == http.StatusNotFound {
			continue
		}
		_, _, got := getAll(t, "http://"+host+"/v2/hub/"+suiteRepository+"/referrers/"+m)
		if want, got := referrersOf(t, want), referrersOf(t, got); !slices.Equal(got, want) {
			t.Errorf("the referrers of %s are %v, at the plain registry %v", m, got, want)
		}
	}
}

// referrersOf returns the digests of a list of referrers, in order.
func referrersOf(t *testing.T, list []byte) []string {
	t.Helper()
	var index ocispec.Index
	if err := json.Unmarshal(list, &index); err != nil {
		t.Errorf("a list of referrers: %v: %s", err, list)
	}
	var found []string
	for _, m := range index.Manifests {
		found = append(found, m.Digest.String())
	}
	slices.Sort(found)
	return found
}

// settle waits until the proxy has stored all content.
func (c *suiteContent) settle(t *testing.T, s *stack) {
	t.Helper()
	var missing []string
	s.proxy.until(t, "the copies of the content", func() bool {
		missing = nil
		opened := false
		s.look(t, func(d *store.Dir) {
			opened = true
			for _, m := range c.manifests {
				if _, err := d.Stat(t.Context(), "hub/"+suiteRepository, digest.Digest(m)); err != nil {
					missing = append(missing, m)
				}
			}
			for _, tag := range c.tags {
				if _, err := d.Tag(t.Context(), "hub/"+suiteRepository, tag); err != nil {
					missing = append(missing, tag)
				}
			}
		})
		return opened && missing == nil
	})
}

// blobsRead counts the blobs in a log that were read.
func blobsRead(log []asked) int {
	read := map[string]bool{}
	for _, a := range log {
		if a.method == http.MethodGet && strings.Contains(a.path, "/blobs/") {
			read[a.path] = true
		}
	}
	return len(read)
}
