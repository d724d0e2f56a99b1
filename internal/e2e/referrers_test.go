package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
)

// signatureType is the artifact type of the signature.
const signatureType = "application/vnd.example.signature"

// refuseReferrers responds to the referrers API with a status.
func refuseReferrers(status int) answerer {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/referrers/") {
			return false
		}
		w.WriteHeader(status)
		return true
	}
}

// TestSignatureBehindA406 looks for the signature of an image at an upstream that responds
// to the referrers API with 406, and has the fallback tag.
func TestSignatureBehindA406(t *testing.T) {
	crane, oras, s := tool(t, "crane"), tool(t, "oras"), newStack(t)
	s.wire.misbehave(refuseReferrers(http.StatusNotAcceptable))
	signature := attach(t, oras, s.registry+"/"+upstreamRepository+":"+tag)
	cranePull(t, crane, s.reference(), s.image)
	s.settle(t, "amd64")
	s.wire.take()

	wantDiscovered(t, oras, s.reference(), signature)
	wantReferrer(t, s.host, s.image.index.Digest, signature)
	log := s.wire.take()
	wantNoDirect(t, log, "oras")
	subject := s.image.index.Digest
	for _, path := range []string{"referrers/" + subject.String(), "manifests/sha256-" + subject.Encoded()} {
		if count(log, http.MethodGet, "/v2/"+upstreamRepository+"/"+path) == 0 {
			t.Errorf("the upstream was not asked for %s:%s", path, show(log))
		}
	}
	// The fallback tag of the image, and that of the signature, since oras looks for
	// signatures of that too.
	s.settleLists(t, 2)

	s.wire.stop()
	wantDiscovered(t, oras, s.reference(), signature)
	wantReferrer(t, s.host, s.image.index.Digest, signature)
	s.wantGentleEnd(t)
}

// attach signs an image at a registry that has no referrers API, and returns
// the digest of the signature.
func attach(t *testing.T, oras, reference string) digest.Digest {
	t.Helper()
	printed := command(t, oras, "attach", "--plain-http", "--format", "json",
		"--artifact-type", signatureType, "--annotation", "signed-by=a test", reference)
	var attached struct{ Digest digest.Digest }
	if err := json.Unmarshal([]byte(printed), &attached); err != nil || attached.Digest.Validate() != nil {
		t.Fatalf("oras attach names no digest: %v: %s", err, printed)
	}
	return attached.Digest
}

// wantDiscovered fails unless oras finds the signature of an image, and no other artifact.
func wantDiscovered(t *testing.T, oras, reference string, signature digest.Digest) {
	t.Helper()
	printed := command(t, oras, "discover", "--plain-http", "--format", "json", reference)
	var found struct {
		Referrers []struct {
			Digest       digest.Digest
			ArtifactType string
		}
	}
	if err := json.Unmarshal([]byte(printed), &found); err != nil {
		t.Fatalf("oras discover: %v: %s", err, printed)
	}
	if len(found.Referrers) != 1 || found.Referrers[0].Digest != signature || found.Referrers[0].ArtifactType != signatureType {
		t.Errorf("oras discover found %+v, want the signature %s", found.Referrers, signature)
	}
}

// wantReferrer fails unless go-containerregistry, on which cosign is built,
// finds the signature of a digest. It falls back to the tag by itself if the API responds
// with 400, 404 or 406, so the API is also requested directly.
func wantReferrer(t *testing.T, host string, subject, signature digest.Digest) {
	t.Helper()
	d, err := name.NewDigest(host+"/"+localRepository+"@"+subject.String(), name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Referrers(d, remote.WithContext(t.Context()))
	if err != nil {
		t.Fatalf("the referrers of %s: %v", d, err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatalf("the referrers of %s: %v", d, err)
	}
	if len(m.Manifests) != 1 || m.Manifests[0].Digest.String() != signature.String() {
		t.Errorf("go-containerregistry found %+v, want the signature %s", m.Manifests, signature)
	}
	status, body := get(t, "http://"+host+"/v2/"+localRepository+"/referrers/"+subject.String())
	if status != http.StatusOK || !strings.Contains(string(body), signature.String()) {
		t.Errorf("the referrers API of the proxy: status %d %s, want the signature %s in it", status, body, signature)
	}
}
