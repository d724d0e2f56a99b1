package route

import (
	"errors"
	"strconv"
	"strings"
)

var (
	// ErrRange reports a Range header that cannot be read, or asks for so many
	// pieces that it is no honest wish; it is to be ignored (RFC 9110, 14.2).
	ErrRange = errors.New("route: the range cannot be read")
	// ErrUnsatisfiable reports ranges that all lie outside of the content.
	ErrUnsatisfiable = errors.New("route: the range lies outside of the content")
)

const maxRanges = 64

// Range is a piece of content, in bytes.
type Range struct{ Start, Length int64 }

// ParseRange parses a Range header (RFC 9110, 14.1) for content of that size.
// Ranges outside of the content are left out; [ErrUnsatisfiable] if none is
// left.
func ParseRange(header string, size int64) ([]Range, error) {
	list, ok := strings.CutPrefix(header, "bytes=")
	if !ok || strings.Count(list, ",") >= maxRanges {
		return nil, ErrRange
	}
	var ranges []Range
	var sum int64
	outside := false
	for part := range strings.SplitSeq(list, ",") {
		part = strings.Trim(part, " \t")
		if part == "" {
			continue
		}
		r, inside, err := parseOne(part, size)
		if err != nil {
			return nil, err
		}
		if !inside {
			outside = true
			continue
		}
		ranges = append(ranges, r)
		sum += r.Length
	}
	switch {
	case len(ranges) == 0 && outside:
		return nil, ErrUnsatisfiable
	case len(ranges) == 0, len(ranges) > 1 && sum > size:
		return nil, ErrRange
	}
	return ranges, nil
}

func parseOne(part string, size int64) (r Range, inside bool, err error) {
	first, last, ok := strings.Cut(part, "-")
	if !ok {
		return r, false, ErrRange
	}
	if first == "" {
		n, err := number(last)
		if err != nil {
			return r, false, err
		}
		n = min(n, size)
		return Range{size - n, n}, n > 0, nil
	}
	start, err := number(first)
	if err != nil {
		return r, false, err
	}
	end := size - 1
	if last != "" {
		e, err := number(last)
		if err != nil || e < start {
			return r, false, ErrRange
		}
		end = min(end, e)
	}
	return Range{start, end - start + 1}, start < size, nil
}

// number parses digits only; one that is too large is as large as can be.
func number(s string) (int64, error) {
	if s == "" || len(s) > 32 {
		return 0, ErrRange
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, ErrRange
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		n = 1<<63 - 1
	}
	return n, nil
}
