package fakeserver

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// late is a listener that is closed while it accepts a connection.
type late struct {
	net.Listener
	closes *listener
}

func (l late) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	_ = l.closes.Close()
	return c, err
}

// TestCloseEndsConnections: a connection that no server has seen yet ends with its
// listener, whether it was accepted before or in the same moment.
func TestCloseEndsConnections(t *testing.T) {
	for _, sameMoment := range []bool{false, true} {
		l, err := listen("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		if sameMoment {
			l.Listener = late{l.Listener, l}
		}
		c, err := l.Accept()
		if sameMoment != errors.Is(err, net.ErrClosed) {
			t.Errorf("same moment %v: %v, %v", sameMoment, c, err)
		}
		_ = l.Close()
		if err := client.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(client); len(b) != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("same moment %v: the connection goes on: %q, %v", sameMoment, b, err)
		}
	}
}
