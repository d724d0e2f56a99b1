package registry

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Link is a long way to a registry, such as to another continent.
type Link struct {
	// Delay is the time of a round trip: that of every request, and once more at the
	// first request of a connection, for its handshake. If zero, there is none.
	Delay time.Duration
	// Rate is how many bytes per second each connection gets, whatever others take.
	// If zero, there is no limit.
	Rate int64
}

type tripsKey struct{}

// withTrips gives the requests of a connection a counter that they share.
func withTrips(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, tripsKey{}, new(atomic.Int64))
}

// delay delays each request by its round trips.
func (l Link) delay(h http.Handler) http.Handler {
	if l.Delay <= 0 {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		wait := l.Delay
		if trips, ok := req.Context().Value(tripsKey{}).(*atomic.Int64); ok && trips.Add(1) == 1 {
			wait += l.Delay
		}
		select {
		case <-time.After(wait):
			h.ServeHTTP(w, req)
		case <-req.Context().Done():
		}
	})
}

// listener gives each connection of l its rate.
func (l Link) listener(inner net.Listener) net.Listener {
	if l.Rate <= 0 {
		return inner
	}
	return pacedListener{inner, l.Rate}
}

type pacedListener struct {
	net.Listener
	rate int64
}

func (l pacedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &pacedConn{Conn: c, rate: l.rate}, nil
}

// pacedConn sends no faster than its rate. It hides ReadFrom, so that everything goes
// through Write.
type pacedConn struct {
	net.Conn
	rate int64

	mu   sync.Mutex
	next time.Time // when the bytes that were sent so far have crossed the link
}

// A pause is as long as its bytes take, and what a pause was too long is taken off
// the next one, up to burst.
const (
	pacedPiece = 64 << 10
	burst      = 20 * time.Millisecond
)

func (c *pacedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	done := 0
	for done < len(p) {
		n, err := c.Conn.Write(p[done:min(len(p), done+pacedPiece)])
		done += n
		if err != nil {
			return done, err
		}
		if n == 0 {
			return done, io.ErrShortWrite
		}
		now := time.Now()
		if earliest := now.Add(-burst); c.next.Before(earliest) {
			c.next = earliest
		}
		c.next = c.next.Add(time.Duration(n) * time.Second / time.Duration(c.rate))
		time.Sleep(c.next.Sub(now))
	}
	return done, nil
}
