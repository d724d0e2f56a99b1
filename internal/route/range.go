package route

import (
	"errors"
	"strconv"
	"strings"
)

var (
	// ErrRange reports a Range header that the server ignores, as RFC 9110 allows:
	// one that is malformed, has another unit than bytes, or whose ranges add up to
	// more than the whole.
	ErrRange = errors.New("route: this Range header is ignored")
	// ErrUnsatisfiable reports a Range header all of whose ranges lie beyond the end.
	// Its status is 416.
	ErrUnsatisfiable = errors.New("route: the range cannot be satisfied")
)

// MaxRanges is how many ranges one request may have.
const MaxRanges = 64

// Range is a piece of a blob. Length is never 0.
type Range struct{ Start, Length int64 }

// ParseRange reads a Range header (RFC 9110, 14.2) for content of size bytes, and
// returns the ranges in its order. No ranges and no error mean the whole content: there
// is no header, or the content is empty. The errors are [ErrRange] and
// [ErrUnsatisfiable]. A header with more than [MaxRanges] ranges, or whose ranges
// overlap so that they add up to more than the whole, is an [ErrRange], since it could
// only make the response larger.
func ParseRange(header string, size int64) ([]Range, error) {
	if header == "" {
		return nil, nil
	}
	unit, list, ok := strings.Cut(header, "=")
	if !ok || !strings.EqualFold(strings.TrimSpace(unit), "bytes") || size < 0 {
		return nil, ErrRange
	}
	if strings.Count(list, ",") >= MaxRanges {
		return nil, ErrRange
	}
	var ranges []Range
	var sum int64
	some := false
	for spec := range strings.SplitSeq(list, ",") {
		spec = strings.Trim(spec, " \t")
		if spec == "" {
			continue // the grammar of lists allows it
		}
		some = true
		r, err := parseSpec(spec, size)
		if err != nil {
			return nil, err
		}
		if r.Length == 0 {
			continue
		}
		if r.Length > size-sum {
			return nil, ErrRange
		}
		sum += r.Length
		ranges = append(ranges, r)
	}
	switch {
	case !some:
		return nil, ErrRange
	case ranges == nil && size > 0:
		return nil, ErrUnsatisfiable
	}
	// Of empty content every range lies beyond the end, but clients that send a Range
	// with every request are better served with 200 and no bytes than with 416.
	return ranges, nil
}

// parseSpec reads one range. Its length is 0 if it lies beyond the end.
func parseSpec(spec string, size int64) (Range, error) {
	first, last, ok := strings.Cut(spec, "-")
	if !ok {
		return Range{}, ErrRange
	}
	if first == "" {
		n, err := position(last)
		if err != nil {
			return Range{}, err
		}
		n = min(n, size)
		return Range{Start: size - n, Length: n}, nil
	}
	start, err := position(first)
	if err != nil {
		return Range{}, err
	}
	end := size - 1
	if last != "" {
		n, err := position(last)
		if err != nil || n < start {
			return Range{}, ErrRange
		}
		end = min(end, n)
	}
	if start >= size {
		return Range{}, nil
	}
	return Range{Start: start, Length: end - start + 1}, nil
}

// position reads digits. A number that does not fit becomes the largest int64, which
// lies beyond every end.
func position(s string) (int64, error) {
	if s == "" {
		return 0, ErrRange
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, ErrRange
		}
	}
	n, _ := strconv.ParseInt(s, 10, 64) // MaxInt64 if it does not fit
	return n, nil
}
