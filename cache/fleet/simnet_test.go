package fleet_test

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// simnet is a network in memory, which works in a bubble of testing/synctest. A machine is
// what comes before the colon of an address.
type simnet struct {
	mu        sync.Mutex
	listeners map[string]*simListener
	conns     map[*wire]bool
	frozen    map[string]bool     // machines that neither send nor receive
	cut       map[[2]string]int   // how many cuts are between a pair of machines: nothing passes
	refuses   bool                // that is noticed when a connection is made
	slow      map[[2]string]int64 // bytes per second between a pair
	changed   chan struct{}       // closed when one of the above has changed
	wrote     func(machine string)
}

const (
	simLatency = 300 * time.Microsecond
	simRate    = 20 << 20 // bytes per second of a connection
	simPiece   = 16 << 10
)

func newSimnet() *simnet {
	return &simnet{
		listeners: map[string]*simListener{}, conns: map[*wire]bool{}, frozen: map[string]bool{},
		cut: map[[2]string]int{}, slow: map[[2]string]int64{}, changed: make(chan struct{}),
	}
}

func machineOf(address string) string { return strings.Split(address, ":")[0] }

func pairOf(a, b string) [2]string { return [2]string{min(a, b), max(a, b)} }

// change changes the network under its lock.
func (n *simnet) change(edit func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	edit()
	close(n.changed)
	n.changed = make(chan struct{})
}

// kill takes a machine away: its connections end, and nobody listens.
func (n *simnet) kill(machine string) {
	var ends []*wire
	n.change(func() {
		maps.DeleteFunc(n.listeners, func(address string, l *simListener) bool { return machineOf(address) == machine })
		for c := range n.conns {
			if c.from == machine || c.to == machine {
				ends = append(ends, c)
			}
		}
	})
	for _, c := range ends {
		_ = c.Close()
	}
}

// blocked reports whether nothing passes between two machines. changed is closed when that
// may have changed.
func (n *simnet) blocked(from, to string) (blocked, refuses bool, rate int64, changed chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	rate = simRate
	if r := n.slow[pairOf(from, to)]; r > 0 {
		rate = r
	}
	cut := n.cut[pairOf(from, to)] > 0
	return cut || n.frozen[from] || n.frozen[to], cut && n.refuses, rate, n.changed
}

// dialer makes connections from a machine.
func (n *simnet) dialer(from string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, _, address string) (net.Conn, error) {
		to := machineOf(address)
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		for {
			blocked, refuses, _, changed := n.blocked(from, to)
			if refuses {
				return nil, refused()
			}
			if !blocked {
				break
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: context.Cause(ctx)}
			}
		}
		time.Sleep(simLatency)
		n.mu.Lock()
		l := n.listeners[address]
		n.mu.Unlock()
		if l == nil {
			return nil, refused()
		}
		a, b := net.Pipe()
		near, far := n.wire(a, from, to), n.wire(b, to, from)
		select {
		case l.incoming <- far:
			return near, nil
		case <-l.closed:
		case <-ctx.Done():
		}
		_, _ = near.Close(), far.Close()
		return nil, refused()
	}
}

func refused() error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
}

// transport sends HTTP from a machine.
func (n *simnet) transport(from string) *http.Transport {
	dial := n.dialer(from)
	return &http.Transport{DialContext: dial, DialTLSContext: dial, DisableCompression: true, MaxIdleConnsPerHost: 16, IdleConnTimeout: 90 * time.Second}
}

// listen makes a listener, which ends with its machine.
func (n *simnet) listen(address string) net.Listener {
	l := &simListener{address: address, incoming: make(chan net.Conn), closed: make(chan struct{})}
	n.change(func() { n.listeners[address] = l })
	return l
}

type simListener struct {
	address  string
	incoming chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

func (l *simListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.incoming:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *simListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *simListener) Addr() net.Addr { return simAddr(l.address) }

type simAddr string

func (a simAddr) Network() string { return "sim" }
func (a simAddr) String() string  { return string(a) }

// wire is one end of a connection.
type wire struct {
	net.Conn
	n        *simnet
	from, to string
	once     sync.Once
	closed   chan struct{}
}

func (n *simnet) wire(c net.Conn, from, to string) *wire {
	w := &wire{Conn: c, n: n, from: from, to: to, closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns[w] = true
	return w
}

// Write sends pieces, each when it may pass.
func (w *wire) Write(p []byte) (sent int, err error) {
	for piece := range slices.Chunk(p, simPiece) {
		rate, err := w.wait()
		if err != nil {
			return sent, err
		}
		time.Sleep(simLatency + time.Duration(float64(len(piece))/float64(rate)*float64(time.Second)))
		if _, err := w.wait(); err != nil {
			return sent, err
		}
		if w.n.wrote != nil {
			w.n.wrote(w.from)
		}
		m, err := w.Conn.Write(piece)
		if sent += m; err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// wait waits until bytes may pass.
func (w *wire) wait() (rate int64, err error) {
	for {
		blocked, _, rate, changed := w.n.blocked(w.from, w.to)
		if !blocked {
			return rate, nil
		}
		select {
		case <-changed:
		case <-w.closed:
			return 0, errors.New("simnet: closed")
		}
	}
}

func (w *wire) Close() error {
	w.once.Do(func() {
		close(w.closed)
		w.n.mu.Lock()
		delete(w.n.conns, w)
		w.n.mu.Unlock()
	})
	return w.Conn.Close()
}

func (w *wire) LocalAddr() net.Addr  { return simAddr(w.from + ":1") }
func (w *wire) RemoteAddr() net.Addr { return simAddr(w.to + ":1") }
