package flight

import (
	"context"
	"errors"
	"time"

	"github.com/pullthrough/pullthrough/internal/share"
	"github.com/pullthrough/pullthrough/upstream"
)

// A lane is a connection beside the front's. It fetches one piece after the other, ahead
// of the front, which hashes them where it meets them. While the front waits for a piece
// it has no connection, and there is a lane more. Each lane has a spare slot.

const (
	// A source that has said that it is asked too often, or that does not serve parts, is
	// asked for no further pieces of any blob for so long.
	shyLimited = time.Minute
	shyWhole   = 10 * time.Minute
	maxShy     = 1024 // sources that are remembered

	// nearby is how soon an upstream answers that gets no further connections: what bounds
	// its rate is one of the two machines, which they cost more than they bring.
	nearby = 5 * time.Millisecond
)

var (
	// errGivenBack ends a lane that brought no gain.
	errGivenBack = errors.New("flight: fewer connections bring as much")
	// errPassed ends a lane whose piece the front waits for in vain.
	errPassed = errors.New("flight: the front waits for it")
)

// lane is a further connection of a flight. flight.mu guards it.
type lane struct {
	piece  *segment
	end    context.CancelCauseFunc
	live   bool // the upstream has answered it
	ending bool
}

// lanes are the further connections of a flight.
type lanes struct {
	list      []*lane
	running   bool    // steer runs
	last      bool    // they take the last bytes: it is not known yet whether they are of use
	perSecond float64 // of one connection
	nudge     chan struct{}
}

// count returns how many lanes there are that do not end, and whether all of them have
// been answered.
func (l *lanes) count() (n int, steady bool) {
	steady = true
	for _, o := range l.list {
		if !o.ending {
			n++
			steady = steady && o.live
		}
	}
	return n, steady
}

// shift says whether the front has a connection now, and lets steer see it.
func (f *flight) shift(fronting bool) {
	f.fronting = fronting
	if f.lanes.running {
		select {
		case f.lanes.nudge <- struct{}{}:
		default:
		}
	}
}

// accompany begins to steer, once, if the blob is worth it and the upstream, which answered
// after took, is not nearby. f.mu is held.
func (f *flight) accompany(took time.Duration) {
	if f.lanes.running || took < nearby || f.group.Segments < 2 || f.size < parallelSize || !f.answered || f.segments.off || f.ctx.Err() != nil {
		return
	}
	if until, ok := f.group.shy.Get(f.claim()); ok && time.Now().Before(until) {
		return
	}
	f.lanes.running = true
	f.fetchers.Go(f.steer)
}

// steer gives the download the connections that it gains from, until it ends or may have
// no further ones.
func (f *flight) steer() {
	l := ladder{most: f.group.Segments, n: 1}
	tick := time.NewTicker(windowTime)
	defer tick.Stop()
	f.mu.Lock()
	w := window{since: time.Now(), came: f.came}
	f.mu.Unlock()
	for {
		select {
		case <-f.ctx.Done():
			return
		case <-f.lanes.nudge:
		case <-tick.C:
		}
		f.mu.Lock()
		if f.segments.off || f.over() {
			f.mu.Unlock()
			return
		}
		have, steady := f.lanes.count()
		if f.fronting {
			have++
		}
		if perSecond, ok := w.look(time.Now(), f.came, steady); ok && have > 0 {
			f.lanes.perSecond = perSecond / float64(have)
			l.judge(perSecond, have, f.size-f.present())
		}
		want := l.n
		if f.unwanted() || f.via != "" { // another cache has what it has: more connections bring no more
			want = 1
		}
		f.lanes.last = l.trial == 1
		more := f.crew(want)
		f.mu.Unlock()
		for more > 0 && f.addLane() {
			more--
		}
	}
}

// crew ends the lanes that are too many for want connections, those that are farthest from
// the front, and returns how many are missing. f.mu is held.
func (f *flight) crew(want int) (missing int) {
	if f.fronting || want == 1 {
		want--
	}
	n, _ := f.lanes.count()
	for ; n > want; n-- {
		var far *lane
		for _, o := range f.lanes.list {
			if !o.ending && (far == nil || o.piece.start > far.piece.start) {
				far = o
			}
		}
		far.ending = true
		far.end(errGivenBack)
	}
	return want - n
}

// addLane begins a lane if a slot is free and a piece is left for it.
func (f *flight) addLane() bool {
	ctx, release, ok := f.group.slots.Spare(f.ctx, f.spareClaim())
	if !ok {
		return false
	}
	l := &lane{}
	ctx, l.end = context.WithCancelCause(upstream.WithOwnConnection(ctx))
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.nextPiece(l) {
		l.end(nil)
		release()
		return false
	}
	f.lanes.list = append(f.lanes.list, l)
	f.fetchers.Go(func() {
		defer release()
		defer l.end(nil)
		f.runLane(ctx, l)
	})
	return true
}

// spareClaim is the claim of a further connection.
func (f *flight) spareClaim() share.Claim {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.claim()
	c.Copy = f.clients == 0
	return c
}

// nextPiece gives l its next piece, if there is one. f.mu is held.
func (f *flight) nextPiece(l *lane) bool {
	if l.ending || f.segments.off || f.over() || f.ctx.Err() != nil {
		return false
	}
	p, ok := f.piece(f.lanes.perSecond, f.lanes.last)
	if !ok {
		return false
	}
	l.piece = newSegment(p, true)
	f.segments.list = append(f.segments.list, l.piece)
	f.group.segments.Add(1)
	return true
}

// runLane fetches pieces until none is left or the lane is to end.
func (f *flight) runLane(ctx context.Context, l *lane) {
	for more := true; more; {
		f.mu.Lock()
		s := l.piece
		want := span{s.start, s.end}
		f.mu.Unlock()
		taken, err := f.connect(ctx, want, false, laneReceiver{segmentReceiver{f, s}, l})
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		f.mu.Lock()
		more = f.judgeLane(l, err, taken) && f.nextPiece(l)
		if !more {
			f.lanes.remove(l)
		}
		f.wakeAll()
		f.mu.Unlock()
	}
}

// judgeLane takes the piece of l out after it ended with err, and reports whether l may go
// on. f.mu is held.
func (f *flight) judgeLane(l *lane, err error, taken int64) bool {
	f.segments.remove(l.piece)
	if errors.Is(err, errGivenBack) || errors.Is(err, share.ErrWanted) {
		return false
	}
	progress := err == nil || taken >= segmentAlign
	refused := f.noteShy(err) || hopeless(err) || errors.Is(err, errPassed) && !progress
	f.segments.count(!progress, refused)
	return progress
}

// noteShy remembers that the upstream refuses further connections, if err says so.
func (f *flight) noteShy(err error) bool {
	e, ok := errors.AsType[*upstream.Error](err)
	switch {
	case !ok:
		return false
	case e.Class == upstream.Limited || e.RetryAfter > 0:
		f.group.shy.Put(f.claim(), time.Now().Add(max(shyLimited, e.RetryAfter)), 1)
	case e.Class == upstream.Protocol:
		f.group.shy.Put(f.claim(), time.Now().Add(shyWhole), 1)
	default:
		return false
	}
	return true
}

// pass ends the lane whose piece is s, if there is one, and those whose piece has brought
// next to nothing either.
func (l *lanes) pass(s *segment) {
	for _, o := range l.list {
		if o.piece == s || o.piece.pos-o.piece.start < segmentAlign {
			o.end(errPassed)
		}
	}
}

// remove takes a lane out that has ended.
func (l *lanes) remove(old *lane) {
	for i, o := range l.list {
		if o == old {
			l.list = append(l.list[:i], l.list[i+1:]...)
			return
		}
	}
}

// laneReceiver writes the pieces of a lane.
type laneReceiver struct {
	segmentReceiver
	l *lane
}

// accept notes that the upstream has answered.
func (r laneReceiver) accept(body upstream.Body, took time.Duration) error {
	r.f.mu.Lock()
	r.l.live = true
	if body.Via != "" { // from now on another cache sends it: steer ends the lanes
		r.f.via = body.Via
	}
	r.f.mu.Unlock()
	return r.segmentReceiver.accept(body, took)
}
