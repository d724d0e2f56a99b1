package flight

import "github.com/pullthrough/pullthrough/store"

// content is what a flight has of its blob, what it knows of it, and the readers
// that wait for more. flight.mu guards it and is held whenever a method is called.
type content struct {
	size     int64 // -1 if unknown
	doubt    bool  // the size is in doubt until the digest has matched
	have     ranges
	front    int64 // every byte before it is present and hashed
	claimed  int64 // the front is writing up to here
	fronting bool  // the front has a connection, or waits for the next one
	came     came  // what this process has received
	granted  bool  // the upstream has let this process read the blob
	answered bool  // readers may have what is present: granted, and no doubt is left
	verified bool
	via      string // the other cache that answered last; empty: the upstream did
	err      error  // why the download ended; Broken if the store failed

	// handover is where the readers of a broken flight go on.
	handover store.Progress

	segments segments
	lanes    lanes
	rate     rate // of the front

	waiters map[*waiter]struct{}
	live    chan struct{} // closed at the first good answer, or at the end
	verdict chan struct{} // closed at the end of the download
}

// waiter sleeps until the byte at off is released.
type waiter struct {
	off   int64
	whole bool
	ready chan struct{}
}

func newContent(size int64, doubt bool) content {
	return content{
		size: size, doubt: doubt, waiters: map[*waiter]struct{}{},
		live: make(chan struct{}), verdict: make(chan struct{}), lanes: lanes{nudge: make(chan struct{}, 1)},
	}
}

// isSmall reports whether a blob of this size is verified before its header.
func isSmall(size int64) bool { return size >= 0 && size <= HoldBack }

// grant notes that the upstream lets this process read the blob.
func (c *content) grant() {
	c.granted = true
	if !c.answered && (!c.doubt || c.verified) {
		c.answered = true
		close(c.live)
	}
	c.wake()
}

// end makes the outcome of the download known. handover is of use to the readers
// of a broken flight only.
func (c *content) end(err error, handover store.Progress) {
	if err == nil {
		c.verified = true
		c.grant()
	} else {
		c.err, c.handover = err, handover
	}
	if !c.answered { // an end is no answer: it releases nothing
		close(c.live)
	}
	close(c.verdict)
	c.wake()
}

// over reports whether nothing more will come.
func (c *content) over() bool { return c.verified || c.err != nil }

// wake wakes the readers whose bytes are released, or all of them at the end.
func (c *content) wake() {
	over := c.over()
	for w := range c.waiters {
		if over || c.released(w.off, w.whole) > 0 {
			delete(c.waiters, w)
			close(w.ready)
		}
	}
}

// wakeAll wakes all readers, so that each demands its bytes again if they are
// still missing.
func (c *content) wakeAll() {
	for w := range c.waiters {
		delete(c.waiters, w)
		close(w.ready)
	}
}

// wait adds a reader that wants the byte at off.
func (c *content) wait(off int64, whole bool) *waiter {
	w := &waiter{off: off, whole: whole, ready: make(chan struct{})}
	c.waiters[w] = struct{}{}
	return w
}

// released returns how many bytes from off on may be read. The end of the blob
// is not released to a reader of the whole before the digest has matched.
func (c *content) released(off int64, whole bool) int64 {
	if !c.answered {
		return 0
	}
	end := c.have.end(off)
	if whole && !c.verified {
		limit := c.front
		if c.size >= 0 {
			limit = c.size
		}
		end = min(end, limit-HoldBack)
	}
	return max(0, end-off)
}

// missing returns how many bytes the front has still to bring. Of an unknown
// size it assumes as much again as has come.
func (c *content) missing() int64 {
	if c.size < 0 {
		return c.front
	}
	return c.size - c.front
}

// limit returns the first byte from the front on that is present or that a
// segment brings, math.MaxInt64 if there is none.
func (c *content) limit() int64 {
	if c.have.end(c.front) > c.front {
		return c.front
	}
	limit := c.segments.next(c.front)
	if n := c.have.next(c.front); n >= 0 {
		limit = min(limit, n)
	}
	return limit
}

// plan returns a new segment for the byte at off, which is not present, or nil
// if it comes soon without one: from the front or from a segment that is under
// way.
func (c *content) plan(off int64) *segment {
	if c.size < 0 || off >= c.size || !c.answered || !c.segments.allowed() {
		return nil
	}
	soon := c.rate.soon()
	if off <= max(c.claimed, c.have.end(c.front))+soon {
		return nil
	}
	// It begins at an aligned offset, so that readers of neighbouring ranges
	// share it, but has nothing that is present or that another segment brings.
	start := max(off&^(segmentAlign-1), c.claimed, c.have.prev(off))
	end := min(start+segmentSize, c.size)
	if n := c.have.next(off); n >= 0 {
		end = min(end, n)
	}
	return c.segments.add(off, span{start, end}, soon)
}
