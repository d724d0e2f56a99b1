package soak

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// With the hostile tenant, the p99 of the honest one may be three times the longest of: its
// p99 alone; that of the bare work meanwhile, see [stage.bareWork], since the machine may have
// become busier; and floor. Alone it is 10 to 30 ms on two busy cores and a shared disk, where
// single pauses of the scheduler or the disk can more than triple it. The failures that the
// test looks for are larger: slots, queues and hosts that are taken cost seconds. The test
// does not notice a hostile tenant that only takes processor time.
const floor = 100 * time.Millisecond

// slowestCopy is how long the copy of an honest image of 300 KiB may take while the hostile
// tenant fills all queues. It takes a second or two on a busy machine.
const slowestCopy = 5 * time.Second

// How much more than before the process may hold when all clients have left.
const (
	spareGoroutines = 8
	spareFiles      = 6
)

// spareHeap returns how much more the heap may hold: what the limits allow to be kept
// (manifests, lists, parsed manifests, known copies), buffers of pools, and a KiB for each
// hostile request, since names, tags and digests are remembered, whose number is bounded by
// far more than the test requests. The text of a request, of 100 KiB and more, must not be
// kept.
func spareHeap(requests int64) uint64 {
	return uint64(limits.ManifestMemory) + 2*uint64(limits.KeptBytes) + 4<<20 + uint64(requests)<<10
}

// judge compares the two phases. The limits of the cache are in seconds, so what is late at the
// honest tenant proves something only if the machine does its work in a fraction of them. It
// does not if a single pull without the hostile tenant, or one that is not the cache's, took as
// long, as where many other tests run on few processors.
func (s *stage) judge(calm, loaded *phase) {
	s.Helper()
	late := s.late.all()
	switch slowest := max(calm.honest.quantile(1), calm.bare.quantile(1), loaded.bare.quantile(1)); {
	case len(late) == 0:
	case slowest < stale/4:
		for _, c := range late {
			s.Error(c)
		}
	default:
		s.Logf("the machine is too busy to judge what is late: it took %v for what needs no cache, or no other tenant:\n%s", slowest, strings.Join(late, "\n"))
	}
	if os.Getenv("PULLTHROUGH_SOAK") == "" {
		return // it would measure the tests of other packages, which may run now
	}
	p, bare, q := calm.honest.quantile(0.99), loaded.bare.quantile(0.99), loaded.honest.quantile(0.99)
	if most := 3 * max(p, bare, floor); q > most {
		s.Errorf("the p99 of the honest tenant is %v with the hostile one, %v without and %v for the bare work, want %v at most", q, p, bare, most)
	}
	if loaded.slowest > slowestCopy {
		s.Errorf("a copy of the honest tenant took %v or more, want %v at most", loaded.slowest, slowestCopy)
	}
}

// phase is what was measured in one phase.
type phase struct {
	honest, bare latencies
	slowest      time.Duration // of the honest copies that were seen
}

// String returns the figures.
func (p *phase) String() string {
	return fmt.Sprintf("%d honest requests, p50 %v p99 %v, bare work p99 %v, slowest copy %v",
		p.honest.count(), p.honest.quantile(0.5), p.honest.quantile(0.99), p.bare.quantile(0.99), p.slowest.Round(time.Millisecond))
}

// watchCopies measures how long copies of the honest tenant take.
func (s *stage) watchCopies(end time.Time, p *phase) {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for time.Now().Before(end) {
		<-ticker.C
		s.honestCopies(p)
	}
}

// honestCopies notes how old the copies of the honest tenant are, and names one that has not
// ended, or returns an empty string if all have.
func (s *stage) honestCopies(p *phase) (left string) {
	for _, c := range s.cache.Copies() {
		if c.Source.Rule == "honest" {
			p.slowest = max(p.slowest, time.Since(c.Created))
			left = c.String()
		}
	}
	return left
}

// idle describes what the cache still does, or returns an empty string if it is idle.
func (s *stage) idle() string {
	if n := s.cache.Stats().Downloads; n > 0 {
		return fmt.Sprintf("%d downloads run", n)
	}
	for _, c := range s.cache.Copies() {
		if c.State == "running" || c.State == "queued" || c.Source.Rule == "honest" {
			return c.String()
		}
	}
	return ""
}

// await polls until left returns an empty string. What never comes fails, however slow the
// machine is.
func (s *stage) await(what string, most time.Duration, left func() string) {
	s.Helper()
	if text := wait(most, left); text != "" {
		s.Errorf("not within %v: %s; %s", most, what, text)
	}
}

// wait polls until left returns an empty string, or returns what is left after most.
func wait(most time.Duration, left func() string) (text string) {
	for deadline := time.Now().Add(most); ; {
		if text = left(); text == "" || time.Now().After(deadline) {
			return text
		}
		time.Sleep(10 * time.Millisecond) // polls a condition until a deadline
	}
}

// footprint is the resources that the process holds.
type footprint struct {
	goroutines, files int
	heap              uint64
}

// measure takes the footprint of the process, without the idle connections of honest clients
// and the content of the fake upstreams.
func (s *stage) measure() footprint {
	s.honest.closeIdle()
	s.home.forget()
	runtime.GC() // twice, to empty pools
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return footprint{goroutines: runtime.NumGoroutine(), files: openFiles(), heap: m.HeapAlloc}
}

// openFiles counts file descriptors. It returns 0 on systems where it cannot.
func openFiles() int {
	if runtime.GOOS != "linux" {
		return 0
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}

// returned waits until the process holds no more than before, except for the clients' ends of
// the connections that deaf clients still have.
func (s *stage) returned(before footprint, requests int64, deaf int) {
	s.Helper()
	spareHeap := spareHeap(requests)
	var now footprint
	s.await("goroutines, files and heap are back where they were", time.Minute, func() string {
		now = s.measure()
		if now.goroutines <= before.goroutines+spareGoroutines && now.files <= before.files+spareFiles+deaf && now.heap <= before.heap+spareHeap {
			return ""
		}
		return fmt.Sprintf("%+v before, %+v now, of which %d files are those of deaf clients", before, now, deaf)
	})
	s.Logf("held before %+v, after %+v, and %d connections of deaf clients", before, now, deaf)
	if s.Failed() {
		stacks := make([]byte, 1<<20)
		s.Logf("%s", stacks[:runtime.Stack(stacks, true)])
	}
}

// latencies collects how long requests took.
type latencies struct {
	mu  sync.Mutex
	all []time.Duration
}

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, d)
}

func (l *latencies) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.all)
}

func (l *latencies) quantile(q float64) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.all) == 0 {
		return 0
	}
	slices.Sort(l.all)
	return l.all[int(q*float64(len(l.all)-1))].Round(10 * time.Microsecond)
}

// complaints holds the first failures, and their number.
type complaints struct {
	mu    sync.Mutex
	first []string
	n     int
}

func (c *complaints) add(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n++; len(c.first) < 10 {
		c.first = append(c.first, fmt.Sprintf(format, args...))
	}
}

func (c *complaints) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n > len(c.first) {
		return append(slices.Clone(c.first), fmt.Sprintf("and %d more", c.n-len(c.first)))
	}
	return c.first
}

// listener is a [slog.Handler] that complains of each log line about the honest tenant, since
// nothing fails at its upstream.
type listener struct {
	*complaints
	attrs []slog.Attr
}

func (l listener) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

func (l listener) Handle(_ context.Context, r slog.Record) error {
	text, honest := r.Message, false
	note := func(a slog.Attr) bool {
		text += " " + a.String()
		honest = honest || a.Value.String() == "honest" || strings.HasPrefix(a.Value.String(), "app/")
		return true
	}
	for _, a := range l.attrs {
		note(a)
	}
	if r.Attrs(note); honest {
		l.add("it is logged: %s", text)
	}
	return nil
}

func (l listener) WithAttrs(attrs []slog.Attr) slog.Handler {
	return listener{l.complaints, append(slices.Clone(l.attrs), attrs...)}
}

func (l listener) WithGroup(string) slog.Handler { return l }
