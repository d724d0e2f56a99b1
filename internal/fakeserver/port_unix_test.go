//go:build unix

package fakeserver_test

import (
	"errors"
	"net"
	"net/http"
	"syscall"
	"testing"

	"github.com/pullthrough/pullthrough/internal/fakeserver"
)

// TestPortIsKept asks for the port of a stopped server as a program does that was
// given it as a free one.
func TestPortIsKept(t *testing.T) {
	s := fakeserver.New("f", http.NotFoundHandler(), nil)
	t.Cleanup(s.Close)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	unshared := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		_ = c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 0) })
		return err
	}}
	s.Stop()
	if l, err := unshared.Listen(t.Context(), "tcp", s.Address()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("another gets the port: %v, %v", l, err)
	}
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	s.Close()
	l, err := unshared.Listen(t.Context(), "tcp", s.Address())
	if err != nil {
		t.Fatalf("after Close the port is free: %v", err)
	}
	_ = l.Close()
}
