package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// refuseHeadOfBlobs responds to every HEAD of a blob with a status.
func refuseHeadOfBlobs(status int) answerer {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodHead || !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		w.WriteHeader(status)
		return true
	}
}

// puller pulls an image by a reference at a host, and checks it.
type puller struct {
	name          string
	architectures []string
	pull          func(t *testing.T, host, reference string, m *image)
}

// pullers returns crane, which pulls one platform, and regctl, which copies all.
func pullers(t *testing.T) []puller {
	t.Helper()
	crane, regctl := tool(t, "crane"), tool(t, "regctl")
	return []puller{
		{"crane", []string{"amd64"}, func(t *testing.T, host, reference string, m *image) {
			t.Helper()
			cranePull(t, crane, host+"/"+reference, m)
		}},
		{"regctl", []string{"amd64", "arm64"}, func(t *testing.T, host, reference string, m *image) {
			t.Helper()
			dir := filepath.Join(t.TempDir(), "out")
			command(t, regctl, "image", "copy", "--host", "reg="+host+",tls=disabled",
				host+"/"+reference, "ocidir://"+dir+":"+tag)
			wantLayout(t, dir, m, true, "amd64", "arm64")
		}},
	}
}

// TestSharedBaseWhereHeadOfBlobsIsRefused pulls two images that share their base from two
// repositories of an upstream that serves blobs and refuses HEAD of them. When the second
// image is pulled, the cache has the base, and checks by HEAD whether that repository has
// it too: a refusal of HEAD must not count as a refusal of the blob.
func TestSharedBaseWhereHeadOfBlobsIsRefused(t *testing.T) {
	for _, p := range pullers(t) {
		for _, status := range []int{http.StatusForbidden, http.StatusMethodNotAllowed} {
			t.Run(fmt.Sprintf("%s %d", p.name, status), func(t *testing.T) { sharedBase(t, p, status) })
		}
	}
}

func sharedBase(t *testing.T, p puller, status int) {
	const otherRepository = "team/web"
	s, other := newStack(t), newImage(t, 2)
	other.push(t, s.registry, otherRepository, tag)
	s.wire.misbehave(refuseHeadOfBlobs(status))

	p.pull(t, s.host, localRepository+":"+tag, s.image)
	s.settle(t, p.architectures...)
	p.pull(t, s.host, "hub/"+otherRepository+":"+tag, other)
	s.settleImage(t, "hub/"+otherRepository, other, p.architectures...)
	log := s.wire.take()
	wantNoBlobTwice(t, log)
	wantNoDirect(t, log, p.name)
	wantBasesFetched(t, log, "/v2/"+otherRepository+"/blobs/", other, p.architectures)

	s.wire.stop()
	p.pull(t, s.host, localRepository+":"+tag, s.image)
	p.pull(t, s.host, "hub/"+otherRepository+":"+tag, other)
	s.wantTagsUnknown(t, localRepository)
	s.wantTagsUnknown(t, "hub/"+otherRepository)
	s.wantGentleEnd(t)
}

// wantBasesFetched fails unless each base was fetched by one GET, though a HEAD of one was
// refused. Which one depends on the order of requests: after a refusal the upstream
// receives no HEAD for a while.
func wantBasesFetched(t *testing.T, log []asked, blobs string, m *image, architectures []string) {
	t.Helper()
	heads := 0
	for _, a := range architectures {
		path := blobs + m.platforms[a].base().Digest.String()
		heads += count(log, http.MethodHead, path)
		if n := count(log, http.MethodGet, path); n != 1 {
			t.Errorf("%d GETs of the base of %s, want one:%s", n, a, show(log))
		}
	}
	if heads == 0 {
		t.Errorf("no HEAD of a base was refused, so this test shows nothing:%s", show(log))
	}
}
