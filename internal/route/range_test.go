package route

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestParseRange(t *testing.T) {
	for _, c := range []struct {
		header string
		size   int64
		want   []Range
	}{
		{"", 10, nil},
		{"bytes=0-", 10, []Range{{0, 10}}},
		{"bytes=0-0", 10, []Range{{0, 1}}},
		{"bytes=0-9", 10, []Range{{0, 10}}},
		{"bytes=0-99", 10, []Range{{0, 10}}},
		{"bytes=3-5", 10, []Range{{3, 3}}},
		{"bytes=9-", 10, []Range{{9, 1}}},
		{"bytes=-1", 10, []Range{{9, 1}}},
		{"bytes=-10", 10, []Range{{0, 10}}},
		{"bytes=-99", 10, []Range{{0, 10}}},
		{"BYTES=1-2", 10, []Range{{1, 2}}},
		{"bytes= 1-2 ,\t4-5 ", 10, []Range{{1, 2}, {4, 2}}},
		{"bytes=,1-2,,", 10, []Range{{1, 2}}},
		{"bytes=7-8,0-1", 10, []Range{{7, 2}, {0, 2}}},
		{"bytes=0-1,99-", 10, []Range{{0, 2}}},
		{"bytes=0-1,-0", 10, []Range{{0, 2}}},
		{"bytes=0-4,3-5", 10, []Range{{0, 5}, {3, 3}}},
		{"bytes=0-99999999999999999999", 10, []Range{{0, 10}}},
		{"bytes=-99999999999999999999", 10, []Range{{0, 10}}},
		{"bytes=0-9223372036854775807", math.MaxInt64, []Range{{0, math.MaxInt64}}},
		{"bytes=0-", 0, nil}, // of empty content, all of it is 200 without bytes
		{"bytes=5-9", 0, nil},
		{"bytes=-5", 0, nil},
	} {
		got, err := ParseRange(c.header, c.size)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%q of %d: %v, %v, want %v", c.header, c.size, got, err, c.want)
		}
	}
}

func TestParseRangeFaults(t *testing.T) {
	many := func(n int) string {
		var specs []string
		for i := range n {
			specs = append(specs, fmt.Sprintf("%d-%d", 2*i, 2*i))
		}
		return "bytes=" + strings.Join(specs, ",")
	}
	for _, c := range []struct {
		header string
		size   int64
		want   error
	}{
		{"bytes=10-", 10, ErrUnsatisfiable},
		{"bytes=10-20", 10, ErrUnsatisfiable},
		{"bytes=-0", 10, ErrUnsatisfiable},
		{"bytes=10-,20-30,-0", 10, ErrUnsatisfiable},
		{"bytes=99999999999999999999-", 10, ErrUnsatisfiable},
		{"bytes=99999999999999999999-", math.MaxInt64, ErrUnsatisfiable},
		{"bytes", 10, ErrRange},
		{"bytes=", 10, ErrRange},
		{"bytes=,", 10, ErrRange},
		{"bytes=-", 10, ErrRange},
		{"bytes=1", 10, ErrRange},
		{"bytes=2-1", 10, ErrRange},
		{"bytes=20-19", 10, ErrRange},
		{"bytes=--1", 10, ErrRange},
		{"bytes=+1-2", 10, ErrRange},
		{"bytes=1-+2", 10, ErrRange},
		{"bytes=1 -2", 10, ErrRange},
		{"bytes=1-2-3", 10, ErrRange},
		{"bytes=a-b", 10, ErrRange},
		{"bytes=0x1-2", 10, ErrRange},
		{"bytes=1-2;4-5", 10, ErrRange},
		{"bytes=0-1,x", 10, ErrRange},
		{"bytes=99-,x", 10, ErrRange},
		{"lines=1-2", 10, ErrRange},
		{"bytes:1-2", 10, ErrRange},
		{"bytes=0-", -1, ErrRange},
		{"bytes=0-,0-0", 10, ErrRange},
		{"bytes=0-,0-", math.MaxInt64, ErrRange},
		{many(MaxRanges + 1), 1 << 20, ErrRange},
		{"bytes=0-0" + strings.Repeat(",", MaxRanges), 10, ErrRange},
	} {
		if got, err := ParseRange(c.header, c.size); !errors.Is(err, c.want) || got != nil {
			t.Errorf("%.80q of %d: %v, %v, want %v", c.header, c.size, got, err, c.want)
		}
	}
	if got, err := ParseRange(many(MaxRanges), 1<<20); err != nil || len(got) != MaxRanges {
		t.Errorf("%d ranges, %v", len(got), err)
	}
}

func FuzzParseRange(f *testing.F) {
	f.Add("bytes=0-", int64(10))
	f.Add("bytes=-5,0-1, 3-4", int64(10))
	f.Add("bytes=0-9223372036854775807,1-", int64(math.MaxInt64))
	f.Add("bytes=99-", int64(0))
	f.Add("Bytes=1-2,,", int64(3))
	f.Fuzz(func(t *testing.T, header string, size int64) {
		ranges, err := ParseRange(header, size)
		if err != nil {
			if ranges != nil || !errors.Is(err, ErrRange) && !errors.Is(err, ErrUnsatisfiable) {
				t.Fatalf("%v, %v", ranges, err)
			}
			return
		}
		if len(ranges) == 0 && header != "" && size != 0 || len(ranges) > MaxRanges {
			t.Fatalf("%d ranges", len(ranges))
		}
		rest := size
		for _, r := range ranges {
			if r.Start < 0 || r.Length <= 0 || r.Length > size-r.Start {
				t.Fatalf("%v of %d", r, size)
			}
			if rest -= r.Length; rest < 0 {
				t.Fatalf("%v are more than %d", ranges, size)
			}
		}
	})
}
