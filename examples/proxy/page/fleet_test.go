package page_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache/fleet"
	"github.com/pullthrough/pullthrough/upstream"
)

// fakeFleet is a fleet of which a test says everything.
type fakeFleet struct {
	members []fleet.Member
	blobs   []fleet.Blob
	stats   fleet.Stats
}

func (f *fakeFleet) Members(context.Context) []fleet.Member { return slices.Clone(f.members) }
func (f *fakeFleet) Blobs() []fleet.Blob                    { return f.blobs }
func (f *fakeFleet) Stats() fleet.Stats                     { return f.stats }

// blobOf is a blob of a repository of Docker Hub.
func blobOf(name string) fleet.Blob {
	return fleet.Blob{Source: upstream.Source{Rule: "docker-hub", Host: "docker.io", Repository: name}, Digest: digest.FromString(name)}
}

// TestFleetSection: the replicas with what is known of each, who brings what, and how much came
// from where. Without a fleet there is no such section.
func TestFleetSection(t *testing.T) {
	s := newStage(t, hub())
	hasNot(t, s.get(t), `id="fleet"`, `href="#fleet"`)
	filled, followed, waiting := blobOf("library/filled"), blobOf("library/followed"), blobOf("library/waiting")
	filled.Upstream, filled.Served, followed.From = 2, 3, "10.0.0.8:5443"
	f := &fakeFleet{
		members: []fleet.Member{{Address: "10.0.0.6:5443"}, {Address: "10.0.0.7:5443", Self: true}, {Address: "10.0.0.8:5443", Dead: true}},
		blobs:   []fleet.Blob{filled, followed, waiting}, stats: fleet.Stats{BytesReceived: 5 << 30, Failures: 2, Strangers: 1},
	}
	s.Fleet = f
	s.record.call("docker.io", nil)
	body := s.get(t)
	part := sectionOf(body, "fleet")
	has(t, part, "10.0.0.7:5443 This replica", "10.0.0.8:5443 Does not answer", "10.0.0.6:5443 No trouble",
		"5.0 GiB came from other replicas, 0 B from upstreams; 2 requests to other replicas failed; 1 request of strangers got nothing.",
		"docker.io/library/filled", "its upstream, by this replica 2 connections 3", "rule docker-hub 10.0.0.8:5443 0", "nobody yet 0", filled.Digest.String()[:19]+"…")
	if strings.Index(part, "10.0.0.8:5443") > strings.Index(part, "10.0.0.7:5443") || strings.Index(part, "10.0.0.7:5443") > strings.Index(part, "10.0.0.6:5443") {
		t.Error("the replicas are not in the order of what to look at")
	}
	has(t, body, `href="#fleet"`, "1 replica did not answer", "It is passed over until it answers.", `<a href="#fleet">See which</a>`)

	f.members[2].Dead, f.blobs, f.stats = false, nil, fleet.Stats{}
	body = s.get(t)
	has(t, sectionOf(body, "fleet"), "Nothing is on its way that replicas share.")
	hasNot(t, body, "did not answer", "of strangers")
}

// TestFleetIsBounded: of very many replicas and blobs some show, and the page says of how many.
func TestFleetIsBounded(t *testing.T) {
	f := &fakeFleet{}
	for i := range 1000 {
		f.members = append(f.members, fleet.Member{Address: fmt.Sprintf("10.0.%d.%d:5443%s", i/256, i%256, strings.Repeat("x", 1000)), Dead: i > 0})
		f.blobs = append(f.blobs, blobOf(fmt.Sprint("library/app-", i)))
	}
	s := newStage(t, hub())
	s.Fleet = f
	body := s.get(t)
	part := sectionOf(body, "fleet")
	if n := strings.Count(part, `<tr role="row" data-key=`); n != 100 || len(part) > 200<<10 {
		t.Errorf("%d rows and %d KiB, want 100 and at most 200", n, len(part)>>10)
	}
	has(t, part, "Showing 50 of 1,000")
	has(t, body, "999 replicas did not answer", "They are passed over until they answer.")
}
