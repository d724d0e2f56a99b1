package cache

import (
	"log/slog"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/internal/origin"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

// A manifest that a client has read is kept until it is stored, whichever of the two comes
// first: it is kept behind the answer, and the copy may have ended by then.
func TestReadAndStoredInAnyOrder(t *testing.T) {
	source := upstream.Source{Rule: "team", Host: "registry.example.com", Repository: "team/api"}
	r := origin.Repo{Name: "app/api", Match: &rule.Match{Source: source}, From: "https://" + source.String()}
	body := []byte(`{"schemaVersion":2}`)
	man := oci.NewContent(ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(body), Size: int64(len(body))}, body, r.From)
	for _, storedFirst := range []bool{false, true} {
		records := &store.Mem{}
		l := newLocal(records, records, Limits{}.defaults(), slog.New(slog.DiscardHandler), &counters{})
		if storedFirst {
			l.linked(t.Context(), r, man)
		}
		l.keepRead(t.Context(), r, man, time.Now())
		if kept := l.readBefore(t.Context(), r, man.Digest) != nil; kept == storedFirst {
			t.Errorf("stored first %v: kept %v", storedFirst, kept)
		}
		l.linked(t.Context(), r, man)
		for key := range records.RecordKeys(t.Context(), "manifests") {
			t.Errorf("stored first %v: the record %s is left", storedFirst, key)
		}
		if l.wasRead(r, man.Digest) {
			t.Errorf("stored first %v: it is kept although it is stored", storedFirst)
		}
	}
}
