package flight

const (
	// parallelSize is the size of the smallest blob that is fetched over several
	// connections.
	parallelSize = 16 << 20
	// A further connection asks for what comes in about two seconds, within these bounds.
	leastPiece = 1 << 20
	mostPiece  = 16 << 20
)

// pieceSize is how many bytes a connection of perSecond is asked for at once.
func pieceSize(perSecond float64) int64 {
	return min(max(leastPiece, int64(2*perSecond)), mostPiece) &^ (segmentAlign - 1)
}

// gap returns the first bytes from off on that are neither present nor fetched as a
// segment, false if there are none.
func (c *content) gap(off int64) (g span, ok bool) {
	for off < c.size {
		if end := c.have.end(off); end > off {
			off = end
		} else if s := c.segments.holding(off); s != nil {
			off = s.end
		} else {
			end := min(c.size, c.segments.next(off))
			if n := c.have.next(off); n >= 0 {
				end = min(end, n)
			}
			return span{off, end}, true
		}
	}
	return span{}, false
}

// piece returns the bytes that a further connection of perSecond should bring: the first
// that nobody brings, and that the front does not soon. If last, it is fewer, the last
// ones, so that the front can go on undisturbed. If there are none, they are half of what another
// connection has before it.
func (c *content) piece(perSecond float64, last bool) (p span, ok bool) {
	size, at := pieceSize(perSecond), max(c.front, c.claimed)
	for off := at; !ok || last; {
		g, more := c.gap(off)
		if !more {
			break
		}
		off = g.end
		if c.fronting && g.start == at { // the front is about to bring these
			if g.end-g.start < leastPiece {
				continue
			}
			g.start += min(size, (g.end-g.start)/2)
		}
		p, ok = g, true
	}
	switch {
	case !ok:
		return c.half()
	case last:
		p.start = max(p.start, p.end-size/2)
	default:
		p.end = min(p.end, p.start+size)
	}
	return p, true
}

// half takes the second half of what the segment has before it that has most.
func (c *content) half() (p span, ok bool) {
	var most *segment
	for _, s := range c.segments.list {
		if most == nil || s.end-s.claimed > most.end-most.claimed {
			most = s
		}
	}
	if most == nil || most.end-most.claimed < 2*leastPiece {
		return span{}, false
	}
	p = span{most.end - (most.end-most.claimed)/2, most.end}
	most.end = p.start
	return p, true
}

// present returns how many bytes are there.
func (c *content) present() (n int64) {
	for _, s := range c.have {
		n += s.end - s.start
	}
	return n
}
