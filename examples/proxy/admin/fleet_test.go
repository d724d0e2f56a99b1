package admin_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache/fleet"
	"github.com/pullthrough/pullthrough/examples/proxy/admin"
	"github.com/pullthrough/pullthrough/upstream"
)

// twoReplicas is a fleet in which this replica follows another one, and sends to it.
type twoReplicas struct{}

func (twoReplicas) Members(context.Context) []fleet.Member {
	return []fleet.Member{{Address: "10.0.0.7:5443", Dead: true}, {Address: "10.0.0.8:5443", Self: true}}
}

func (twoReplicas) Blobs() []fleet.Blob {
	s := upstream.Source{Rule: "hub", Host: "docker.io", Repository: "library/alpine"}
	return []fleet.Blob{{Source: s, Digest: digest.FromString("a"), Upstream: 1, Served: 2}, {Source: s, Digest: digest.FromString("b"), From: "10.0.0.7:5443"}}
}

func (twoReplicas) Stats() fleet.Stats {
	return fleet.Stats{Filled: 1, Followed: 2, BytesReceived: 3, Served: 4, Refused: 5, Strangers: 6, Questions: 7, Failures: 8, Overtaken: 9, Given: 10, Taken: 11}
}

// TestFleetOverHTTP: the replicas, what is under way and the counters can be read, and a proxy
// without a fleet says that there is none.
func TestFleetOverHTTP(t *testing.T) {
	k := newKit(t, open())
	k.refused(k.request(http.MethodGet, "/api/v1/fleet", ""), http.StatusNotFound, admin.CodeNotFound, "this proxy is in no fleet")
	k.refused(k.request(http.MethodPost, "/api/v1/fleet", "{}"), http.StatusMethodNotAllowed, admin.CodeMethod)
	k.refused(k.request(http.MethodGet, "/api/v1/fleet?after=x", ""), http.StatusBadRequest, admin.CodeParameter)
	k.server.API.(*admin.API).Fleet = twoReplicas{}
	f := ask[admin.Fleet](k, "GET", "fleet", "")
	if f.Self != "10.0.0.8:5443" || len(f.Members) != 2 || !f.Members[0].Dead || f.Members[0].Self || !f.Members[1].Self || f.Members[1].Dead {
		t.Errorf("%+v", f)
	}
	if f.Total != 2 || len(f.Blobs) != 2 || f.Blobs[0] != (admin.FleetBlob{Rule: "hub", Source: "docker.io/library/alpine", Digest: digest.FromString("a").String(), Connections: 1, Served: 2}) ||
		f.Blobs[1].From != "10.0.0.7:5443" {
		t.Errorf("%+v", f.Blobs)
	}
	if want := (admin.FleetStats{Filled: 1, Followed: 2, BytesReceived: 3, Served: 4, Refused: 5, Strangers: 6, Questions: 7, Failures: 8, Overtaken: 9, Given: 10, Taken: 11}); f.Stats != want {
		t.Errorf("%+v, want %+v", f.Stats, want)
	}
	if f := ask[admin.Fleet](k, "GET", "fleet?limit=1", ""); f.Total != 2 || len(f.Blobs) != 1 || len(f.Members) != 2 {
		t.Errorf("%+v", f)
	}
}
