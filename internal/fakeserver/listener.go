package fakeserver

import (
	"net"
	"sync"
)

// listener ends with its connections. The Close of an http.Server does not end what
// its Serve has not seen: a connection that was accepted a moment ago, or the port
// itself if Serve runs only after Close.
type listener struct {
	net.Listener

	mu     sync.Mutex
	closed bool
	open   map[*conn]struct{}
}

func listen(address string) (*listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	return &listener{Listener: l, open: map[*conn]struct{}{}}, nil
}

// Accept returns the next connection. Its method ReadFrom, which can do without
// copying, is that of the kernel's connection.
func (l *listener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{TCPConn: accepted.(*net.TCPConn), listener: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = c.TCPConn.Close()
		return nil, net.ErrClosed
	}
	l.open[c] = struct{}{}
	return c, nil
}

// Close closes the port and every connection.
func (l *listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	err := l.Listener.Close()
	for c := range l.open {
		_ = c.TCPConn.Close()
	}
	clear(l.open)
	return err
}

type conn struct {
	*net.TCPConn
	listener *listener
}

// Close closes the connection.
func (c *conn) Close() error {
	c.listener.mu.Lock()
	delete(c.listener.open, c)
	c.listener.mu.Unlock()
	return c.TCPConn.Close()
}
