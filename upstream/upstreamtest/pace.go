package upstreamtest

import (
	"net/http"
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

// PaceEach limits the bytes of a blob per second that each request for itself receives, as
// a far upstream does. If 0, there is no limit. It holds for requests that begin later.
func (r *Registry) PaceEach(bytesPerSecond int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.each = bytesPerSecond
}

// ownPace returns what paces one response, nil if nothing does, and how many bytes at most
// are sent at once.
func (r *Registry) ownPace() (own *bucket, most int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.each <= 0 {
		return nil, chunk
	}
	return &bucket{rate: float64(r.each), last: time.Now()}, min(chunk, max(r.each/200, 1))
}

// sharedPace returns what paces all responses together now, nil if nothing does.
func (r *Registry) sharedPace() *bucket {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bucket
}

// pass writes a body at the pace of the registry.
func (r *Registry) pass(w http.ResponseWriter, req *http.Request, body []byte) {
	own, most := r.ownPace()
	for len(body) > 0 {
		n := min(int64(len(body)), most)
		own.take(int(n), req.Context().Done())
		if _, err := w.Write(body[:n]); err != nil {
			return
		}
		body = body[n:]
	}
}

// bucket paces writers.
type bucket struct {
	mu   sync.Mutex
	rate float64
	last time.Time // when the bytes that were taken so far may all have been sent
}

// take waits until n bytes may be sent. A nil bucket does not wait.
func (b *bucket) take(n int, stop <-chan struct{}) {
	if b == nil {
		return
	}
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
