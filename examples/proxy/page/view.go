package page

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/proxy/watch"
	"github.com/pullthrough/pullthrough/store"
)

// level says how something is. Its values are classes of the style sheet.
type level string

// The levels, from nothing to say to the worst.
const (
	idle level = "idle" // nothing is known, or nothing happens
	good level = "good"
	warn level = "warn"
	bad  level = "bad"
)

// rank orders levels: what an operator should look at comes first.
func (l level) rank() int {
	switch l {
	case bad:
		return 0
	case warn:
		return 1
	}
	return 2
}

// state is a level with the word for it, since color alone says nothing to many.
type state struct {
	Level level
	Word  string
}

// view is all that the page shows.
type view struct {
	Title   string
	Address string
	Now     when
	Summary state
	Notices []notice
	Fresh   bool // nothing was pulled yet
	Try     string
	Tiles   []tile
	Nav     []navigation

	Charts      chartsView
	Copies      copiesView
	Held        heldView
	Fleet       fleetView
	Pulls       pullsView
	Explain     explainView
	Rules       rulesView
	Hosts       hostsView
	Credentials credentialsView
	Deliveries  deliveriesView

	Self   string // the address of this view
	Done   string // what became of a form
	Acting bool
	Proved bool // the browser shows its proof by itself
}

// navigation is a link to a section.
type navigation struct {
	ID, Name, Count string
	Level           level
}

// tile is one figure at the top.
type tile struct {
	Name, Value, Note string
	Level             level
}

// look gathers what the page shows.
func (p *Page) look(ctx context.Context, q query, now time.Time) *view {
	size := p.size.get(ctx, now)
	v := &view{Address: p.Address, Now: moment(now, now), Try: p.Try, Self: q.link(""), Done: doneText(q.get(keyDone)), Acting: p.Acting}
	rules := p.gatherRules()
	v.Copies = p.viewCopies(q, now)
	v.Held = p.viewHeld(now)
	v.Fleet = p.viewFleet(ctx)
	v.Pulls = p.viewPulls(q, now)
	v.Hosts = viewHosts(rules, q, now)
	v.Credentials = p.viewCredentials(rules, now)
	v.Rules = viewRules(rules, q, now)
	v.Deliveries = p.viewDeliveries(q, now)
	v.Explain = p.viewExplain(ctx, q, now)
	points := p.Record.History(q.get(keySpan) == "day")
	v.Charts = viewCharts(points, size, q)
	v.Fresh = v.Pulls.None && v.Copies.Total == 0
	v.Tiles = p.tiles(size, v)
	v.Notices = p.notices(ctx, size, v, now)
	v.summarize()
	v.navigate()
	return v
}

// summarize says in a sentence how everything is.
func (v *view) summarize() {
	troubles, worst := 0, good
	for _, n := range v.Notices {
		if n.Level.rank() < worst.rank() {
			worst = n.Level
		}
		if n.Level.rank() < good.rank() {
			troubles++
		}
	}
	switch {
	case troubles == 1:
		v.Summary = state{worst, v.Notices[0].Title}
	case troubles > 1:
		v.Summary = state{worst, noun(troubles, "thing") + " to look at"}
	case v.Rules.All == 0:
		v.Summary = state{idle, "No rules yet"}
	case v.Fresh:
		v.Summary = state{good, "Ready for the first pull"}
	default:
		v.Summary = state{good, "Everything works"}
	}
	v.Title = v.Summary.Word + " · pull-through cache"
}

// navigate makes the list of sections.
func (v *view) navigate() {
	v.Nav = []navigation{
		{ID: "overview", Name: "Overview"},
		{ID: "copies", Name: "Copies", Count: formatNumber(v.Copies.Total), Level: v.Copies.Level},
		{ID: "pulls", Name: "Recent pulls", Level: v.Pulls.Level},
		{ID: "explain", Name: "Explain a pull"},
		{ID: "rules", Name: "Rules", Count: formatNumber(v.Rules.All), Level: v.Rules.Level},
		{ID: "upstreams", Name: "Upstreams", Count: formatNumber(v.Hosts.All), Level: v.Hosts.Level},
		{ID: "credentials", Name: "Credentials", Count: formatNumber(v.Credentials.All), Level: v.Credentials.Level},
		{ID: "deliveries", Name: "Deliveries", Count: formatNumber(v.Deliveries.All), Level: v.Deliveries.Level},
	}
	if v.Fleet.Show {
		v.Nav = slices.Insert(v.Nav, 6, navigation{ID: "fleet", Name: "Fleet", Count: formatNumber(v.Fleet.All), Level: v.Fleet.Level})
	}
	if v.Held.Show {
		v.Nav = slices.Insert(v.Nav, 2, navigation{ID: "held", Name: "Held", Count: formatNumber(v.Held.Total), Level: v.Held.Level})
	}
}

// sizeNow is the size of the store as it was asked for last.
type sizeNow struct {
	known bool
	err   error
	store.Size
}

// full reports whether nothing more can be stored.
func (s sizeNow) full() bool { return s.known && s.Free == 0 }

// low reports whether less than a twentieth of the room is left.
func (s sizeNow) low() bool {
	return s.known && s.Free > 0 && s.Free < (s.Content+s.Overhead+s.Free)/20
}

// used is what the store takes in all.
func (s sizeNow) used() int64 { return s.Content + s.Overhead }

// sizes asks for the size of the store now and then, however many pages are open.
type sizes struct {
	ask  *watch.Patient[store.Size] // nil if nobody can be asked
	mu   sync.Mutex
	at   time.Time
	last sizeNow
}

// The size of the store is asked for once in sizeAge, and for sizeWait at most.
const (
	sizeAge  = 2 * time.Second
	sizeWait = time.Second
)

// get returns the size.
func (s *sizes) get(ctx context.Context, now time.Time) sizeNow {
	if s.ask == nil {
		return sizeNow{}
	}
	s.mu.Lock()
	last, age := s.last, now.Sub(s.at)
	fresh := !s.at.IsZero() && age >= 0 && age < sizeAge
	s.mu.Unlock()
	if fresh {
		return last
	}
	// The request of a page that was closed meanwhile must not leave its error to others.
	size, err := s.ask.Do(context.WithoutCancel(ctx))
	last = sizeNow{known: err == nil, err: err, Size: size}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at, s.last = now, last
	return last
}

// tiles are the figures at the top.
func (p *Page) tiles(size sizeNow, v *view) []tile {
	stats := p.Cache.Stats()
	totals := p.Record.Totals()
	ratio := tile{Name: "Hit ratio", Value: "–", Note: "nothing pulled yet", Level: idle}
	if r, ok := totals.HitRatio(); ok {
		ratio = tile{Name: "Hit ratio", Value: formatPercent(r), Note: "of what was asked since the start"}
	}
	list := []tile{
		ratio,
		{Name: "Requests", Value: formatNumber(totals.Requests()), Note: "since the start"},
		{Name: "Sent to clients", Value: formatBytes(totals.Bytes), Note: formatBytes(stats.BytesFetched) + " came from upstreams"},
		{Name: "Copies", Value: formatNumber(v.Copies.Total), Note: copiesNote(v.Copies, stats)},
	}
	stored := tile{Name: "Store", Value: "–", Note: "its size is not known", Level: idle}
	if size.known {
		stored = tile{Name: "Store", Value: formatBytes(size.used()), Note: "no limit is known"}
		switch {
		case size.full():
			stored.Note, stored.Level = "no room is left", bad
		case size.low():
			stored.Note, stored.Level = formatBytes(size.Free)+" free", warn
		case size.Free > 0:
			stored.Note = formatBytes(size.Free) + " free"
		}
	}
	return append(list, stored)
}

func copiesNote(c copiesView, stats cache.Stats) string {
	if c.Total == 0 {
		return noun(stats.Copied, "manifest") + " copied since the start"
	}
	return formatNumber(c.Running) + " running, " + formatNumber(stats.Copied) + " copied"
}
