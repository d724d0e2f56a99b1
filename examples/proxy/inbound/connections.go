package inbound

import (
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Connections bounds how many connections are open. One too many is closed at once. The fields must not
// change after first use. A Connections must not be copied. It is safe for concurrent use.
type Connections struct {
	// Most is how many there may be in all, and PerAddress how many of one address. If
	// zero, there is no limit.
	Most, PerAddress int
	// Proxies are not bound by PerAddress: many clients come from their addresses.
	Proxies Proxies
	// Logger is told of refused connections, once in ten seconds at most. If nil, nothing is logged.
	Logger *slog.Logger

	mu      sync.Mutex
	open    int
	by      map[netip.Addr]int // no more than there are connections
	refused int                // since the last line
	told    time.Time
}

// Listen returns a listener whose connections count.
func (c *Connections) Listen(l net.Listener) net.Listener { return &listener{l, c} }

// listener is a listener whose connections count.
type listener struct {
	net.Listener
	connections *Connections
}

// Accept returns the next connection that may be open.
func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		release, ok := l.connections.take(conn.RemoteAddr())
		if !ok {
			conn.Close() // an error changes nothing
			continue
		}
		once := sync.OnceFunc(release)
		if tcp, ok := conn.(*net.TCPConn); ok {
			return &tcpConn{tcp, once}, nil
		}
		return &plainConn{conn, once}, nil
	}
}

// tcpConn is a connection that counts. It keeps what a TCP connection can do, so that the
// kernel sends files.
type tcpConn struct {
	*net.TCPConn
	release func()
}

// Close closes the connection, which does not count any more.
func (c *tcpConn) Close() error {
	defer c.release()
	return c.TCPConn.Close()
}

// plainConn is any other connection that counts.
type plainConn struct {
	net.Conn
	release func()
}

// Close closes the connection, which does not count any more.
func (c *plainConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

// take counts a connection, and reports whether there may be one more.
func (c *Connections) take(from net.Addr) (release func(), ok bool) {
	address, _ := addressOf(from.String())
	free := c.Proxies.contain(address)
	address = sharer(address)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Most > 0 && c.open >= c.Most || c.PerAddress > 0 && !free && c.by[address] >= c.PerAddress {
		c.refuse(address)
		return nil, false
	}
	if c.by == nil {
		c.by = map[netip.Addr]int{}
	}
	c.open++
	c.by[address]++
	return func() { c.end(address) }, true
}

// end counts the end of a connection.
func (c *Connections) end(address netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	if c.by[address]--; c.by[address] == 0 {
		delete(c.by, address)
	}
}

// refuse logs that a connection was refused; c.mu is held.
func (c *Connections) refuse(address netip.Addr) {
	c.refused++
	if now := time.Now(); c.Logger != nil && now.Sub(c.told) >= 10*time.Second {
		log, refused, open := c.Logger, c.refused, c.open
		c.told, c.refused = now, 0
		go log.Warn("connections were refused: too many are open", "refused", refused, "open", open, "last", address) // no foreign code under a lock
	}
}
