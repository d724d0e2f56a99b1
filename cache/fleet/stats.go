package fleet

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/upstream"
)

// Stats counts what a Fleet did since its first use.
type Stats struct {
	Filled        int64 // connections to upstreams for blobs
	Followed      int64 // requests for blobs to other replicas
	BytesReceived int64 // of blobs, from other replicas
	Served        int64 // requests of other replicas for blobs that were answered by the cache
	Refused       int64 // the same that were sent to another replica, or away
	Strangers     int64 // requests without proof that a replica sent them
	Questions     int64 // questions to other replicas whether they have a blob or bring it
	Failures      int64 // requests to other replicas that were not answered, or not to the end
	Overtaken     int64 // connections to upstreams that were given up since another replica went on
	Given         int64 // copy jobs that another replica took
	Taken         int64 // copy jobs of other replicas that this one took
}

type counts struct {
	filled, followed, received, served, refused, strangers, questions, failures, overtaken, given, taken atomic.Int64
}

// Stats returns the counters.
func (f *Fleet) Stats() Stats {
	c := &f.counts
	return Stats{
		Filled: c.filled.Load(), Followed: c.followed.Load(), BytesReceived: c.received.Load(), Served: c.served.Load(), Refused: c.refused.Load(),
		Strangers: c.strangers.Load(), Questions: c.questions.Load(), Failures: c.failures.Load(), Overtaken: c.overtaken.Load(),
		Given: c.given.Load(), Taken: c.taken.Load(),
	}
}

// Member is one replica as this one sees it.
type Member struct {
	Address string
	Self    bool
	// Dead says that it did not answer when it was asked last, or answered 401, and is passed
	// over.
	Dead bool
}

// Members returns all replicas, in the order of their addresses: those that Peers names, those
// that have asked for a blob within the last minute, and this one.
func (f *Fleet) Members(ctx context.Context) []Member {
	f.begin()
	if f.bad != nil {
		return nil
	}
	addresses := slices.Sorted(slices.Values(f.members(ctx)))
	members := make([]Member, len(addresses))
	for i, a := range addresses {
		members[i] = Member{Address: a, Self: a == f.Self, Dead: f.health.knownDead(a)}
	}
	return members
}

// Blob is a blob that this replica brings at this moment, or gets from another one.
type Blob struct {
	Source upstream.Source
	Digest digest.Digest
	// Upstream is how many connections to the upstream bring it, and Served how many
	// requests of other replicas are answered with it.
	Upstream, Served int
	// From is the replica that sends it. If empty, none does.
	From string
}

// Blobs returns the blobs that are under way, in the order of source and digest.
func (f *Fleet) Blobs() []Blob {
	f.begin()
	f.roles.mu.Lock()
	var blobs []Blob
	for k, o := range f.roles.blobs {
		blobs = append(blobs, Blob{Source: k.source, Digest: k.digest, Upstream: o.filling, Served: o.promised, From: o.holder(asker{})})
	}
	f.roles.mu.Unlock()
	slices.SortFunc(blobs, func(a, b Blob) int {
		return strings.Compare(a.Source.Rule+" "+a.Source.String()+" "+a.Digest.String(), b.Source.Rule+" "+b.Source.String()+" "+b.Digest.String())
	})
	return blobs
}
