package upstreamtest

import (
	"sync"
	"time"
)

// Pace limits the bytes of blobs per second that all requests together receive. If 0, there
// is no limit.
func (r *Registry) Pace(bytesPerSecond int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bucket = nil
	if bytesPerSecond > 0 {
		r.bucket = &bucket{rate: float64(bytesPerSecond), last: time.Now()}
	}
}

// bucket paces writers.
type bucket struct {
	mu   sync.Mutex
	rate float64
	last time.Time // when the bytes that were taken so far may all have been sent
}

// take waits until n bytes may be sent.
func (b *bucket) take(n int, stop <-chan struct{}) {
	b.mu.Lock()
	now := time.Now()
	if b.last.Before(now) {
		b.last = now
	}
	b.last = b.last.Add(time.Duration(float64(n) / b.rate * float64(time.Second)))
	wait := b.last.Sub(now)
	b.mu.Unlock()
	select {
	case <-time.After(wait):
	case <-stop:
	}
}
