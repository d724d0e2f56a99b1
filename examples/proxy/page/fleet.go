package page

import (
	"cmp"
	"context"
	"slices"

	"github.com/pullthrough/pullthrough/cache/fleet"
)

// Replicas is the part of [fleet.Fleet] that the page needs. The page may reorder the lists.
type Replicas interface {
	Members(ctx context.Context) []fleet.Member
	Blobs() []fleet.Blob
	Stats() fleet.Stats
}

// How many replicas and blobs the page shows at most.
const (
	memberRows = 50
	sharedRows = 50
)

// fleetView is the section of replicas.
type fleetView struct {
	Show     bool
	All      int // replicas
	Dead     []string
	Level    level
	Members  []memberRow
	Shown    string
	Blobs    []sharedRow
	Hidden   string // such as "50 of 4,096"
	Received string // from other replicas
	Fetched  string // from upstreams
	Trouble  []string
}

// memberRow is one replica.
type memberRow struct {
	Address string
	State   state
}

// sharedRow is a blob that is under way.
type sharedRow struct {
	Key, Source, Rule, Digest string
	From                      string // another replica; empty if none sends it
	Connections, Served       int
}

// viewFleet gathers what replicas do for one another.
func (p *Page) viewFleet(ctx context.Context) fleetView {
	if p.Fleet == nil {
		return fleetView{}
	}
	v := fleetView{Show: true}
	members := p.Fleet.Members(ctx)
	v.All = len(members)
	for _, m := range members {
		if m.Dead {
			v.Dead = append(v.Dead, short(m.Address, 100))
			v.Level = warn
		}
	}
	slices.SortStableFunc(members, func(a, b fleet.Member) int { return cmp.Compare(memberRank(a), memberRank(b)) })
	for _, m := range members[:min(len(members), memberRows)] {
		v.Members = append(v.Members, memberRow{short(m.Address, 300), memberState(m)})
	}
	v.Shown = shown(len(v.Members), v.All)
	blobs := p.Fleet.Blobs()
	for _, b := range blobs[:min(len(blobs), sharedRows)] {
		v.Blobs = append(v.Blobs, sharedRow{
			Key: b.Source.Rule + " " + b.Source.String() + " " + b.Digest.String(), Source: b.Source.String(), Rule: b.Source.Rule, Digest: b.Digest.String(),
			From: short(b.From, 300), Connections: b.Upstream, Served: b.Served,
		})
	}
	v.Hidden = shown(len(v.Blobs), len(blobs))
	n := p.Fleet.Stats()
	var fetched int64
	for _, h := range p.Record.Hosts() {
		fetched += h.Bytes
	}
	v.Received, v.Fetched = formatBytes(n.BytesReceived), formatBytes(fetched)
	if n.Failures > 0 {
		v.Trouble = append(v.Trouble, noun(n.Failures, "request")+" to other replicas failed")
	}
	if n.Strangers > 0 {
		v.Trouble = append(v.Trouble, noun(n.Strangers, "request")+" of strangers got nothing")
	}
	return v
}

// memberRank puts replicas that do not answer first, then this one.
func memberRank(m fleet.Member) int {
	switch {
	case m.Dead:
		return 0
	case m.Self:
		return 1
	}
	return 2
}

// memberState is the word for a replica. Nothing is known of one that has not failed.
func memberState(m fleet.Member) state {
	switch {
	case m.Self:
		return state{good, "This replica"}
	case m.Dead:
		return state{warn, "Does not answer"}
	}
	return state{good, "No trouble"}
}

// notices are about replicas that do not answer.
func (v fleetView) notices() []notice {
	if len(v.Dead) == 0 {
		return nil
	}
	n := notice{
		Level: warn, Title: noun(len(v.Dead), "replica") + " did not answer", Section: "fleet", Link: "See which",
		Text: "It is passed over until it answers. What it would fetch, the others fetch.",
	}
	if len(v.Dead) > 1 {
		n.Text = "They are passed over until they answer. What they would fetch, the others fetch."
	}
	return []notice{n}
}
