package watch

import (
	"context"
	"sync"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/store"
)

// The steps of the history, and how far it goes back.
const (
	FineStep   = 10 * time.Second
	FineTime   = time.Hour
	CoarseStep = 5 * time.Minute
	CoarseTime = 24 * time.Hour
)

// Point is what happened in one step of the history.
type Point struct {
	Time     time.Time `json:"time"` // the end of the step
	Requests int64     `json:"requests"`
	Stored   int64     `json:"stored"` // answered with what was here: Hit, Checked and Stale
	Missed   int64     `json:"missed"` // answered with what the upstream sent
	Failed   int64     `json:"failed"`
	Served   int64     `json:"served"`  // bytes sent to clients
	Fetched  int64     `json:"fetched"` // bytes that upstreams sent
	// Content is the size of what is stored, Used what the store takes in all, and Free how
	// much more it has room for, at the end of the step. Each is negative if that is not
	// known.
	Content int64 `json:"content"`
	Used    int64 `json:"used"`
	Free    int64 `json:"free"`
}

// HitRatio is how much of what could have come from here did. It is false if there was
// nothing.
func (p Point) HitRatio() (float64, bool) { return ratio(p.Stored, p.Missed) }

// History returns the points of the last hour, one for each FineStep, or those of the last
// day, one for each CoarseStep. The oldest is first.
func (r *Recorder) History(day bool) []Point {
	r.history.mu.Lock()
	defer r.history.mu.Unlock()
	if day {
		return r.history.coarse.list()
	}
	return r.history.fine.list()
}

// Run takes a point of the history at each step until ctx ends. size returns the size of the
// store, and need not return at once; if nil, the size is not known.
func (r *Recorder) Run(ctx context.Context, stats func() cache.Stats, size func(context.Context) (store.Size, error)) {
	tick := time.NewTicker(FineStep)
	defer tick.Stop()
	r.history.begin(r.totals(stats))
	sizes := &Patient[store.Size]{Call: size}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p := r.totals(stats)
			p.Content, p.Used, p.Free = sizeNow(ctx, sizes)
			r.history.add(p)
		}
	}
}

// totals are the counters, as a point that began with the process.
func (r *Recorder) totals(stats func() cache.Stats) Point {
	n := r.Totals()
	return Point{
		Time: time.Now(), Requests: n.Requests(), Stored: n.Outcomes[Hit] + n.Outcomes[Checked] + n.Outcomes[Stale], Missed: n.Outcomes[Miss],
		Failed: n.Outcomes[Failed], Served: n.Bytes, Fetched: stats().BytesFetched,
	}
}

// sizeNow asks for the size of the store, and does not wait for long.
func sizeNow(ctx context.Context, sizes *Patient[store.Size]) (content, used, free int64) {
	if sizes.Call == nil {
		return -1, -1, -1
	}
	s, err := sizes.Do(ctx)
	if err != nil {
		return -1, -1, -1
	}
	return s.Content, s.Content + s.Overhead, s.Free
}

// history keeps points in two widths. Its zero value is empty.
type history struct {
	mu     sync.Mutex
	last   Point // the counters at the last step
	step   Point // what happened since the last coarse step
	steps  int   // how many fine steps that are
	fine   points
	coarse points
}

// begin notes the counters before the first step.
func (h *history) begin(totals Point) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = totals
}

// add ends a step with the counters as they are now.
func (h *history) add(totals Point) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := totals.since(h.last)
	h.last = totals
	h.fine.add(p, int(FineTime/FineStep))
	h.step = p.plus(h.step)
	if h.steps++; h.steps == int(CoarseStep/FineStep) {
		h.coarse.add(h.step, int(CoarseTime/CoarseStep))
		h.step, h.steps = Point{}, 0
	}
}

// since is what happened after the counters were those of before.
func (p Point) since(before Point) Point {
	p.Requests -= before.Requests
	p.Stored -= before.Stored
	p.Missed -= before.Missed
	p.Failed -= before.Failed
	p.Served -= before.Served
	p.Fetched -= before.Fetched
	return p
}

// plus is what happened in two steps, of which p is the later one.
func (p Point) plus(former Point) Point {
	p.Requests += former.Requests
	p.Stored += former.Stored
	p.Missed += former.Missed
	p.Failed += former.Failed
	p.Served += former.Served
	p.Fetched += former.Fetched
	return p
}

// points is a ring of points.
type points struct {
	ring []Point
	next int
}

func (r *points) add(p Point, most int) {
	if len(r.ring) < most {
		r.ring = append(r.ring, p)
		return
	}
	r.ring[r.next] = p
	r.next = (r.next + 1) % most
}

// list returns the points, the oldest first.
func (r *points) list() []Point {
	return append(append([]Point{}, r.ring[r.next:]...), r.ring[:r.next]...)
}
