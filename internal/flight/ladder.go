package flight

import "time"

const (
	// gainful is how much of its even share a further connection must bring: where two
	// bring less than 1.3 times what one does, one is enough.
	gainful = 0.3
	// enough is how much of what more connections bring fewer must bring, to be enough.
	enough = 0.9
	// rising is how much more than the last window brings while a connection still gets
	// faster by itself.
	rising = 1.2

	// full is how many bytes per second are as many as a gigabit link brings. What is as
	// fast has no need of more connections, which cost this machine more than they bring.
	full = 120 << 20

	upWindows   = 5 // within which further connections must have shown their gain
	downWindows = 2 // after which fewer must have shown that they are enough

	firstRest = 20  // windows from a trial that failed to the next one; doubles
	longRest  = 320 // the longest rest

	// What is left must take so long, or further connections come too late: the first of
	// them, and those after it.
	worthOne  = time.Second
	worthMore = 300 * time.Millisecond
)

// ladder decides how many connections a download has, by what they bring together. It
// doubles the number while that grows, and otherwise goes back to the former one. Then it
// rests and tries again, in turn, whether half of them are enough and whether twice as many
// bring more: what grew may have grown by itself. It is used by one goroutine.
type ladder struct {
	most int // connections
	n    int // connections that the download should have; at first one

	trial  int     // the number before n, while n is being tried; 0 if none is
	before float64 // what that number brought
	seen   int     // windows since the trial began
	last   float64 // what came in the window before
	down   bool    // the next trial is one with fewer
	wait   int     // windows before the next trial
	rest   int     // windows to wait after a trial that fails
}

// judge takes the bytes per second of a window in which the download had have connections,
// and how many bytes are left. It sets n.
func (l *ladder) judge(perSecond float64, have int, left int64) {
	last := l.last
	l.last = perSecond
	if perSecond <= 0 {
		return
	}
	if have < l.n { // others have the slots
		l.n, l.trial = max(1, have), 0
		l.pause()
		return
	}
	if l.seen++; l.trial != 0 && !l.judgeTrial(perSecond) {
		return
	}
	if l.wait > 0 {
		l.wait--
		return
	}
	if perSecond < last*rising || l.n > 1 {
		l.try(max(perSecond, last, l.last), float64(left)/perSecond)
	}
}

// judgeTrial ends a trial if it is decided. It reports whether another one may follow.
func (l *ladder) judgeTrial(perSecond float64) bool {
	up := l.trial < l.n
	least := l.before * enough
	if up {
		least = l.before * (1 + gainful*float64(l.n-l.trial)/float64(l.trial))
	}
	switch {
	case perSecond < least && up && l.seen < upWindows, !up && l.seen < downWindows:
		return false
	case perSecond < least:
		l.n = l.trial
		l.pause()
	case l.n == 1 || l.n == l.most:
		l.pause()
	case !up:
		l.last = max(l.last, l.before) // what counts is what the first number brought
	}
	l.trial = 0
	return true
}

// pause makes the next trial come later, and go the other way.
func (l *ladder) pause() {
	l.rest = min(max(firstRest, 2*l.rest), longRest)
	l.wait, l.down = l.rest, !l.down
}

// try begins a trial, unless the rest of the blob is here too soon for it: after left
// seconds.
func (l *ladder) try(perSecond, left float64) {
	l.down = l.n == l.most || l.down && l.n > 1
	n, worth := min(2*l.n, l.most), worthMore
	if l.n == 1 {
		worth = worthOne
	}
	if l.down {
		n, worth = l.n/2, worthOne
	}
	if left < worth.Seconds() || n == l.n || !l.down && perSecond >= full {
		return
	}
	l.n, l.trial, l.before, l.seen = n, l.n, perSecond, 0
}

const (
	windowTime  = 100 * time.Millisecond // the shortest window
	windowTimes = 8                      // how often something must come in a shorter one than the longest
	windowLong  = 500 * time.Millisecond // the longest window
)

// came is what has come over all connections of a download.
type came struct {
	bytes int64
	times int64 // how often there were some
}

// arrive counts n bytes.
func (c *came) arrive(n int64) {
	c.bytes += n
	c.times++
}

// window measures what all connections of a download bring together. It is used by one
// goroutine.
type window struct {
	since time.Time
	came  came // by then
}

// look ends the window if it is long enough, so that bursts do not make its rate wrong, and
// returns what came in it. Unless steady, which says that all connections have been
// answered, a new window begins.
func (w *window) look(now time.Time, c came, steady bool) (perSecond float64, ok bool) {
	took := now.Sub(w.since)
	if steady && (took < windowTime || c.times-w.came.times < windowTimes && took < windowLong) {
		return 0, false
	}
	perSecond = float64(c.bytes-w.came.bytes) / took.Seconds()
	w.since, w.came = now, c
	return perSecond, steady
}
