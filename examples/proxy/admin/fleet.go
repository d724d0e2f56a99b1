package admin

import (
	"context"
	"net/http"

	"github.com/pullthrough/pullthrough/cache/fleet"
)

// Replicas is the part of [fleet.Fleet] that an [API] shows.
type Replicas interface {
	Members(ctx context.Context) []fleet.Member
	Blobs() []fleet.Blob
	Stats() fleet.Stats
}

// fleet answers GET fleet.
func (a *API) fleet(r *http.Request) (any, error) {
	q, err := parameters(r, "limit")
	if err != nil {
		return nil, err
	}
	most, err := limit(q)
	if err != nil {
		return nil, err
	}
	if a.Fleet == nil {
		return nil, &Error{Status: http.StatusNotFound, Code: CodeNotFound, Message: "this proxy is in no fleet: its file has no key fleet"}
	}
	out := Fleet{Members: []Member{}, Blobs: []FleetBlob{}}
	for _, m := range a.Fleet.Members(r.Context()) {
		if m.Self {
			out.Self = m.Address
		}
		out.Members = append(out.Members, Member{Address: m.Address, Self: m.Self, Dead: m.Dead})
	}
	blobs := a.Fleet.Blobs()
	out.Total = len(blobs)
	for _, b := range blobs[:min(len(blobs), most)] {
		out.Blobs = append(out.Blobs, FleetBlob{
			Rule: b.Source.Rule, Source: b.Source.String(), Digest: b.Digest.String(), Connections: b.Upstream, From: b.From, Served: b.Served,
		})
	}
	n := a.Fleet.Stats()
	out.Stats = FleetStats{
		Filled: n.Filled, Followed: n.Followed, BytesReceived: n.BytesReceived, Served: n.Served, Refused: n.Refused, Strangers: n.Strangers,
		Questions: n.Questions, Failures: n.Failures, Overtaken: n.Overtaken, Given: n.Given, Taken: n.Taken,
	}
	return out, nil
}
