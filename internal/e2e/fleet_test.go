package e2e

import (
	"cmp"
	"slices"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// fleetEvent is something that happens to a fleet while its clients pull one blob.
type fleetEvent struct {
	name     string
	replicas int  // 3 if zero
	late     bool // the last replica starts with the event
	quiet    int  // so many of the last replicas have no clients at first
	// owner is the replica to which the blob falls; -1: any.
	owner int
	size  int           // of the blob; that of fleetScale if zero
	rate  int64         // of the upstream, in bytes per second; that of fleetScale if zero
	idle  time.Duration // how long an upstream may send nothing
	// make makes the rig. If nil, it is newFleetRig.
	make func(t *testing.T, n int) *fleetRig
	// edit changes the fleet before it starts, and before acts when it runs, if not nil.
	edit   func(r *fleetRig)
	before func(s *blobStory)
	// fault is what the upstream does when it is asked for the blob, if not nil.
	fault *upstreamtest.Fault
	// at happens when the clients have 40 % of the blob, if not nil. The upstream sends the
	// rest when it has returned, or calls goOn.
	at func(s *blobStory, p *pulls)
	// lost says that the filler's clients may be lost.
	lost bool
	// none says that no client can get the blob.
	none bool
	// most is how often the upstream may send the blob.
	most float64
	// then looks at the fleet after all clients are gone, if not nil.
	then func(s *blobStory)
}

// once is how often the upstream may send a blob that is fetched once: a connection that is
// cut has taken some bytes with it.
const once = 1.02

// underWay is what buffers may hold for a client of what the upstream has sent.
const underWay = 256 << 10

// TestFleet pulls one blob from all replicas of a fleet at once, through everything that can
// go wrong meanwhile.
func TestFleet(t *testing.T) {
	b := newBlobTable(t)
	for _, e := range slices.Concat(quietEvents(), replicaEvents(), viewEvents(), upstreamEvents()) {
		t.Run(e.name, func(t *testing.T) { e.run(t, b) })
	}
}

func (e fleetEvent) run(t *testing.T, b blobTable) {
	if e.make == nil {
		e.make = newFleetRig
	}
	r := e.make(t, max(e.replicas, 3))
	begun := r.replicas
	if e.late {
		begun = begun[:len(begun)-1]
		r.know(r.addresses()[:len(begun)]...)
	}
	size, rate := fleetScale()
	s := &blobStory{r: r, size: cmp.Or(e.size, size)}
	s.d = r.addBlob(s.size, e.owner)
	s.filler = r.rank(s.d, r.addresses()[:len(begun)-e.quiet])[0]
	r.up.Pace(cmp.Or(e.rate, rate))
	if e.fault != nil {
		r.up.Fail(*e.fault)
	}
	part := int64(s.size) * 4 / 10
	if e.at != nil {
		// What a replica has and the others do not have yet is fetched again without it, so
		// this is no moment in the middle of a stream.
		r.up.Fail(upstreamtest.Fault{Kind: "blob", Reference: s.d.String(), Stall: part, Times: 1})
	}
	for _, p := range r.replicas {
		p.Idle, p.Segments = e.idle, 1
	}
	if e.edit != nil {
		e.edit(r)
	}
	r.start(begun...)
	if e.before != nil {
		e.before(s)
	}
	p := &pulls{r: r}
	for i := range begun[:len(begun)-e.quiet] {
		p.begin(i, s.d)
		p.begin(i, s.d)
	}
	if e.at != nil {
		r.until("the clients have 40 %", func() bool { return p.least() > part-underWay })
		e.at(s, p)
		s.goOn()
	}
	s.all = p.wait()
	e.judge(s)
	b.add(e.name, s)
	if e.then != nil {
		e.then(s)
	}
}

// judge fails the test if a law does not hold.
func (e fleetEvent) judge(s *blobStory) {
	s.r.t.Helper()
	if e.lost {
		s.lost = []int{s.filler}
	}
	s.wantNoWrongEnd()
	if !e.none {
		s.wantGood()
	}
	s.wantSent(e.most)
	s.wantOneHop()
}
