package report

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	speed = Row{Work: "pull", What: "MiB/s", Higher: true}
	cost  = Row{Work: "pull", What: "CPU s"}
)

// TestRatios: more than 1 is in favour of the first, whatever is better, and only
// rounds count in which both were measured.
func TestRatios(t *testing.T) {
	var r Results
	for round, v := range []float64{200, 300, 100, 0} {
		r.Add(speed, "we", round, v)
		r.Add(cost, "we", round, v)
	}
	r.Add(speed, "they", 0, 100)
	r.Add(speed, "they", 1, 600)
	r.Add(speed, "they", 3, 5) // we were too quick to be measured
	r.Add(speed, "they", 4, 5) // we failed
	r.Add(cost, "they", 0, 100)
	r.Add(cost, "they", 1, 600)
	for _, c := range []struct {
		row  Row
		want []float64
	}{{speed, []float64{0.5, 2}}, {cost, []float64{0.5, 2}}} {
		got := r.ratios(c.row, "we", "they")
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.row, got, c.want)
		}
	}
	r = Results{}
	r.Add(speed, "we", 0, 4)
	r.Add(speed, "they", 0, 1)
	r.Add(cost, "we", 0, 4)
	r.Add(cost, "they", 0, 1)
	if a, b := r.ratios(speed, "we", "they"), r.ratios(cost, "we", "they"); a[0] != 4 || b[0] != 0.25 {
		t.Errorf("four times as fast is %v, four times the cost %v", a, b)
	}
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   string
	}{
		{nil, "–"},
		{[]float64{0.5}, "0.500"},
		{[]float64{3, 1, 2}, "2.00 (1.00–3.00)"},
		{[]float64{1, 2, 3, 10}, "2.50 (1.00–10.0)"},
		{[]float64{12345.6}, "12346"},
		{[]float64{123.4, 99.44}, "111 (99.4–123)"},
		{[]float64{0.01234}, "0.0123"},
		{[]float64{0}, "0"},
	} {
		if got := spreadOf(c.values).String(); got != c.want {
			t.Errorf("%v: %q, want %q", c.values, got, c.want)
		}
	}
}

// TestTable: rows in the order in which they came, a column for each peer that was
// measured, and what failed below.
func TestTable(t *testing.T) {
	var r Results
	r.Add(speed, "we", 1, 100)
	r.Add(cost, "we", 1, 2)
	r.Add(speed, "they", 1, 50)
	r.Add(speed, "we", 2, 120)
	r.Add(speed, "they", 2, 40)
	r.AddNoise("pull", 0.25)
	r.AddNoise("pull", 0.05)
	r.AddNoise("pull", 0)
	r.Fail("pull", "others", 2, errors.New("no luck"))
	var b strings.Builder
	if err := r.Print(&b, []string{"we", "others", "they"}); err != nil {
		t.Fatal(err)
	}
	const want = `| work | measured | we | × they | taken by others |
|---|---|---|---|---|
| pull | MiB/s | 110 (100–120) | 2.50 (2.00–3.00) | 5 %, at most 25 % |
| pull | CPU s | 2.00 | – | 5 %, at most 25 % |

Failed: pull, others, round 2: no luck
`
	if b.String() != want || r.Failed() != 1 {
		t.Errorf("%d failed, and the table is\n%s\nwant\n%s", r.Failed(), b.String(), want)
	}
}

func TestMachine(t *testing.T) {
	got := Machine(t.TempDir(), time.Date(2026, 11, 29, 1, 2, 3, 0, time.UTC))
	for _, want := range []string{" cores (", ", Linux ", ", go1.", ", files on ", "2026-11-29 01:02 UTC"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q lacks %q", got, want)
		}
	}
}
