package page

import (
	"fmt"
	"strings"
	"time"

	"github.com/pullthrough/pullthrough/examples/proxy/watch"
)

// The charts have so many units in their own system of coordinates. They are stretched to
// the width of the page.
const (
	chartWidth  = 600
	chartHeight = 120
)

// span is how far back charts go.
type span struct {
	whole   time.Duration
	columns int // of the charts
	rows    int // of the table
	labels  [3]string
}

func hourSpan() span { return span{time.Hour, 60, 12, [3]string{"1 h ago", "30 min", "now"}} }
func daySpan() span  { return span{24 * time.Hour, 96, 24, [3]string{"24 h ago", "12 h", "now"}} }

// chartsView is the section of pictures and their table.
type chartsView struct {
	Spans  []choice
	List   []chart
	Labels [3]string
	Rows   []figureRow
	Period string // such as "the last hour"
	Meter  *meter
}

// chart is one picture.
type chart struct {
	ID, Title, Description string
	Top, Middle, Bottom    string // of the vertical axis
	Series                 []series
	Empty                  string // why there is no picture; empty if there is one
	Latest                 string
}

// series is a line with the area below it, as paths.
type series struct {
	Class, Name string
	Line, Area  string
}

// meter is how much of the store is used.
type meter struct {
	Used, Whole int64
	Text        string
	Level       level
}

// figureRow is a row of the table of all pictures.
type figureRow struct {
	Until, Ratio, Requests, Failed, Served, Fetched, Used, Free string
}

// bucket is some steps of the history together.
type bucket struct {
	watch.Point
	any bool
}

// gather sums the points of a span into buckets, the newest of which is the last.
func gather(points []watch.Point, whole time.Duration, n int) []bucket {
	buckets := make([]bucket, n)
	if len(points) == 0 {
		return buckets
	}
	width := whole / time.Duration(n)
	last := points[len(points)-1].Time
	for _, p := range points {
		i := n - 1 - int(last.Sub(p.Time)/width)
		if i < 0 || i >= n {
			continue
		}
		b := &buckets[i]
		p.Requests += b.Requests
		p.Stored += b.Stored
		p.Missed += b.Missed
		p.Failed += b.Failed
		p.Served += b.Served
		p.Fetched += b.Fetched
		*b = bucket{p, true} // with the size of the later point
	}
	return buckets
}

// viewCharts draws the history.
func viewCharts(points []watch.Point, size sizeNow, q query) chartsView {
	s, day := hourSpan(), q.get(keySpan) == "day"
	if day {
		s = daySpan()
	}
	v := chartsView{Labels: s.labels, Period: "the last hour"}
	if day {
		v.Period = "the last day"
	}
	v.Spans = []choice{
		{Name: "Hour", Link: q.link("overview", keySpan, ""), Selected: !day},
		{Name: "Day", Link: q.link("overview", keySpan, "day"), Selected: day},
	}
	buckets := gather(points, s.whole, s.columns)
	v.List = []chart{ratioChart(buckets, v.Period), trafficChart(buckets, v.Period), storeChart(buckets, size, v.Period)}
	if len(points) > 0 {
		for i, b := range gather(points, s.whole, s.rows) {
			if b.any {
				v.Rows = append(v.Rows, figures(b, points[len(points)-1].Time, s, i))
			}
		}
	}
	if size.known && size.Free >= 0 {
		v.Meter = &meter{Used: size.used(), Whole: max(1, size.used()+size.Free), Text: formatBytes(size.used()) + " used, " + formatBytes(size.Free) + " free"}
		switch {
		case size.full():
			v.Meter.Level, v.Meter.Text = bad, formatBytes(size.used())+" used, no room left"
		case size.low():
			v.Meter.Level = warn
		}
	}
	return v
}

// figures is a row of the table.
func figures(b bucket, last time.Time, s span, i int) figureRow {
	end := last.Add(-s.whole / time.Duration(s.rows) * time.Duration(s.rows-1-i))
	row := figureRow{
		Until: stamp(end), Ratio: "–", Requests: formatNumber(b.Requests), Failed: formatNumber(b.Failed),
		Served: formatBytes(b.Served), Fetched: formatBytes(b.Fetched), Used: formatBytes(b.Used), Free: formatBytes(b.Free),
	}
	if r, ok := b.HitRatio(); ok {
		row.Ratio = formatPercent(r)
	}
	return row
}

// stamp returns the hour of a moment.
func stamp(t time.Time) string { return t.UTC().Format("15:04") }

// value is a number of a chart, if there is one.
type value struct {
	y  float64
	ok bool
}

func ratioChart(buckets []bucket, period string) chart {
	c := chart{ID: "chart-ratio", Title: "Hit ratio", Top: "100 %", Middle: "50 %", Bottom: "0 %"}
	var values []value
	var stored, missed int64
	for _, b := range buckets {
		r, ok := b.HitRatio()
		values = append(values, value{r, ok})
		stored, missed = stored+b.Stored, missed+b.Missed
	}
	if stored+missed == 0 {
		c.Empty = "Nothing was pulled in " + period + "."
		return c
	}
	c.Latest = formatPercent(float64(stored) / float64(stored+missed))
	c.Description = fmt.Sprintf("In %s, %s of what was asked for came from here: %s of %s.", period, c.Latest, formatNumber(stored), noun(stored+missed, "request"))
	c.Series = []series{draw(values, 1, "one", "From here")}
	return c
}

func trafficChart(buckets []bucket, period string) chart {
	c := chart{ID: "chart-traffic", Title: "Traffic", Bottom: "0"}
	var served, fetched []value
	var most, allServed, allFetched int64
	for _, b := range buckets {
		served = append(served, value{float64(b.Served), b.any})
		fetched = append(fetched, value{float64(b.Fetched), b.any})
		most = max(most, b.Served, b.Fetched)
		allServed, allFetched = allServed+b.Served, allFetched+b.Fetched
	}
	if most == 0 {
		c.Empty = "Nothing was sent in " + period + "."
		return c
	}
	top := niceBytes(most)
	c.Top, c.Middle = formatBytes(top), formatBytes(top/2)
	c.Latest = formatBytes(allServed)
	c.Description = fmt.Sprintf("In %s, %s were sent to clients and %s came from upstreams; at most %s in one step.",
		period, formatBytes(allServed), formatBytes(allFetched), formatBytes(most))
	c.Series = []series{draw(served, float64(top), "one", "To clients"), draw(fetched, float64(top), "two", "From upstreams")}
	return c
}

func storeChart(buckets []bucket, size sizeNow, period string) chart {
	c := chart{ID: "chart-store", Title: "Store", Bottom: "0"}
	var values []value
	most := int64(0)
	for _, b := range buckets {
		values = append(values, value{float64(b.Used), b.any && b.Used >= 0})
		if b.any {
			most = max(most, b.Used)
		}
	}
	if most == 0 {
		c.Empty = "The first figure comes ten seconds after the start."
		if size.err != nil {
			c.Empty = "The size of the store cannot be read."
		}
		return c
	}
	top := niceBytes(most)
	if whole := size.used() + size.Free; size.known && size.Free >= 0 && most > whole/3 {
		top = max(whole, most)
	}
	c.Top, c.Middle = formatBytes(top), formatBytes(top/2)
	c.Latest = formatBytes(most)
	if size.known {
		c.Latest = formatBytes(size.used())
	}
	c.Description = fmt.Sprintf("The store takes %s; the most in %s was %s.", c.Latest, period, formatBytes(most))
	c.Series = []series{draw(values, float64(top), "one", "Used")}
	return c
}

// draw makes the paths of a series: a step for each value, and a gap where there is none.
func draw(values []value, top float64, class, name string) series {
	var line, area strings.Builder
	width := float64(chartWidth) / float64(len(values))
	begun := -1
	end := func() {
		if begun >= 0 {
			fmt.Fprintf(&area, "V%dH%.1fZ", chartHeight, float64(begun)*width)
		}
		begun = -1
	}
	for i, v := range values {
		if !v.ok {
			end()
			continue
		}
		y := chartHeight * (1 - min(1, max(0, v.y/top)))
		if begun < 0 {
			begun = i
			fmt.Fprintf(&line, "M%.1f %.1f", float64(i)*width, y)
			fmt.Fprintf(&area, "M%.1f %.1f", float64(i)*width, y)
		}
		step := fmt.Sprintf("V%.1fH%.1f", y, float64(i+1)*width)
		line.WriteString(step)
		area.WriteString(step)
	}
	end()
	return series{Class: class, Name: name, Line: line.String(), Area: area.String()}
}

// niceBytes returns a round number of bytes that is at least n.
func niceBytes(n int64) int64 {
	for step := int64(1 << 10); step > 0 && step < 1<<61; step *= 2 {
		if step >= n {
			return step
		}
		if half := step + step/2; half >= n {
			return half
		}
	}
	return n
}
