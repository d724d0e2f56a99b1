// Package bandwidth shares a number of bytes per second fairly: among the rules that
// download from upstreams, and among the clients that pull. One rule or client with a
// hundred connections gets no more than one with a single connection, if both want more
// than there is.
package bandwidth

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Least is the lowest limit in bytes per second with which pulls work. Below it, each of a
// hundred connections would wait so long that it would seem dead.
const Least = 256 << 10

const (
	// A connection takes what comes in a small part of a second, so that its turn comes
	// again soon, however many others there are.
	piecesPerSecond = 512
	leastPiece      = 512
	mostPiece       = 64 << 10
	// burstsPerSecond tells how much may be taken at once after a pause.
	burstsPerSecond = 16
)

// Limit is a number of bytes per second that those who take them share by their keys. The
// zero value limits nothing. It is safe for concurrent use and must not be copied.
type Limit struct {
	mu     sync.Mutex
	bucket *rate.Limiter // nil if nothing is limited
	piece  int
	busy   bool             // a goroutine serves those that wait
	lines  map[string]*line // of the keys for which somebody waits or has waited lately
	turns  turns            // of those for which somebody waits
	passed int64            // what the key has taken that had the last turn; see line
}

// line holds those that wait for one key. The key that has taken least has the next turn. One
// that comes, or comes back, counts as if it had taken as much as the one whose turn it is,
// so that it neither makes up for the time in which it wanted nothing nor loses its turn
// because it comes back a moment later.
type line struct {
	key     string
	waiting []*waiter // the next one first
	taken   int64     // bytes
}

// turns is a heap of the lines in which somebody waits.
type turns []*line

func (t turns) Len() int           { return len(t) }
func (t turns) Less(i, j int) bool { return t[i].taken < t[j].taken }
func (t turns) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *turns) Push(x any)        { *t = append(*t, x.(*line)) }
func (t *turns) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}

// waiter wants n bytes.
type waiter struct {
	n     int
	ready chan struct{} // closed when it has them
	gone  bool          // it does not wait any more
}

// Set changes the limit, also for those that wait. If bytesPerSecond is not positive,
// nothing is limited.
func (l *Limit) Set(bytesPerSecond int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if bytesPerSecond <= 0 {
		l.bucket, l.piece = nil, 0
		return
	}
	l.piece = int(min(max(bytesPerSecond/piecesPerSecond, leastPiece), mostPiece))
	burst := max(int(bytesPerSecond/burstsPerSecond), l.piece)
	if l.bucket == nil {
		l.bucket = rate.NewLimiter(rate.Limit(bytesPerSecond), burst)
		return
	}
	l.bucket.SetLimit(rate.Limit(bytesPerSecond))
	l.bucket.SetBurst(burst)
}

// Piece is how many bytes may be taken at once. It is 0 if nothing is limited.
func (l *Limit) Piece() int {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.piece
}

// Take waits until n bytes may pass for a key, at most a Piece, or until ctx ends, whose
// error it returns then. Those that wait for one key get theirs in the order in which they
// came, and the keys take turns. A nil Limit limits nothing.
func (l *Limit) Take(ctx context.Context, key string, n int) error {
	if l == nil || n <= 0 {
		return ctx.Err()
	}
	w := l.enqueue(key, n)
	if w == nil {
		return ctx.Err()
	}
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
		l.mu.Lock()
		w.gone = true
		l.mu.Unlock()
		return ctx.Err()
	}
}

// enqueue puts n bytes at the end of the line of a key. It returns nil if they may pass at
// once.
func (l *Limit) enqueue(key string, n int) *waiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bucket == nil || !l.busy && l.bucket.AllowN(time.Now(), min(n, l.bucket.Burst())) {
		return nil
	}
	w := &waiter{n: n, ready: make(chan struct{})}
	own := l.lines[key]
	if own == nil {
		if l.lines == nil {
			l.lines = map[string]*line{}
		}
		own = &line{key: key}
		l.lines[key] = own
	}
	if own.waiting = append(own.waiting, w); len(own.waiting) == 1 {
		own.taken = max(own.taken, l.passed)
		heap.Push(&l.turns, own)
	}
	if !l.busy {
		l.busy = true
		go l.serve()
	}
	return w
}

// serve gives those that wait what they want, until nobody waits.
func (l *Limit) serve() {
	for {
		w, delay := l.next()
		if w == nil {
			return
		}
		if delay > 0 {
			time.Sleep(delay)
		}
		close(w.ready)
	}
}

// next takes the one that is next out of its line. What it wants is there after a delay. A
// nil one ends the service.
func (l *Limit) next() (w *waiter, delay time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.turns) > 0 {
		own := l.turns[0]
		w, own.waiting = own.waiting[0], own.waiting[1:]
		if !w.gone {
			l.passed = own.taken
			own.taken += int64(w.n)
		}
		if len(own.waiting) > 0 {
			heap.Fix(&l.turns, 0)
		} else {
			heap.Pop(&l.turns)
		}
		if w.gone {
			continue
		}
		l.forget()
		if l.bucket != nil {
			now := time.Now()
			delay = l.bucket.ReserveN(now, min(w.n, l.bucket.Burst())).DelayFrom(now)
		}
		return w, delay
	}
	l.busy, l.turns, l.lines, l.passed = false, nil, nil, 0
	return nil, 0
}

// forget drops the lines in which nobody waits and which a key that comes back would not
// miss, when there are many of them.
func (l *Limit) forget() {
	if len(l.lines) < 2*len(l.turns)+64 {
		return
	}
	for key, own := range l.lines {
		if len(own.waiting) == 0 && own.taken <= l.passed {
			delete(l.lines, key)
		}
	}
}
