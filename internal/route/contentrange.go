package route

import "strings"

// ContentRange is a parsed Content-Range: the first and the last byte of a part, and the
// size of the whole, which is -1 if it is unknown.
type ContentRange struct{ First, Last, Size int64 }

// mostBytes is what no blob has: sums of two positions below it do not overflow.
const mostBytes = 1 << 62

// ParseContentRange parses the Content-Range of a 206 (RFC 9110 section 14.4). ok is false
// if it is none, or says what cannot be.
func ParseContentRange(header string) (r ContentRange, ok bool) {
	unit, rest, ok := strings.Cut(strings.TrimSpace(header), " ")
	if !ok || !strings.EqualFold(unit, "bytes") {
		return r, false
	}
	span, size, sized := strings.Cut(strings.TrimSpace(rest), "/")
	first, last, ok := strings.Cut(span, "-")
	if !ok || !sized {
		return r, false
	}
	var err, badLast, badSize error
	r.First, err = position(first)
	r.Last, badLast = position(last)
	if r.Size = -1; size != "*" {
		if r.Size, badSize = position(size); r.Size <= r.Last {
			return ContentRange{}, false
		}
	}
	if err != nil || badLast != nil || badSize != nil || r.Last < r.First || max(r.Last, r.Size) >= mostBytes {
		return ContentRange{}, false
	}
	return r, true
}
