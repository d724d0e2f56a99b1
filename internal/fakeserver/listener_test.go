package fakeserver_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/internal/fakeserver"
)

// TestStoppedIsRefused stops servers that began to listen a moment ago, before
// anything accepts connections: what comes after Stop is refused, not taken up
// and broken, and the port is there for Restart.
func TestStoppedIsRefused(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // what Start leaves to a goroutine comes after Stop
	for range 20 {
		s := fakeserver.New("f", http.NotFoundHandler(), nil)
		t.Cleanup(s.Close)
		for range 10 {
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
			s.Stop()
			if c, err := net.Dial("tcp", s.Address()); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Fatalf("a stopped server has the connection %v, %v", c, err)
			}
		}
	}
}

// TestStoppedWithTLS stops servers whose Serve may only begin when the next one's does:
// the two have nothing in common that the race detector sees.
func TestStoppedWithTLS(t *testing.T) {
	ca, err := fakeserver.NewCA("test CA")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Certificate("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	s := fakeserver.New("f", http.NotFoundHandler(), &tls.Config{Certificates: []tls.Certificate{*cert}})
	t.Cleanup(s.Close)
	for range 100 {
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		s.Stop()
	}
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	c, err := tls.Dial("tcp", s.Address(), &tls.Config{RootCAs: ca.Roots()})
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

// TestStopEndsConnections has a connection that sent nothing yet: Stop ends it,
// whether it was accepted before or not.
func TestStopEndsConnections(t *testing.T) {
	s := fakeserver.New("f", http.NotFoundHandler(), nil)
	t.Cleanup(s.Close)
	for range 50 {
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.Address())
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		s.Stop()
		if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: f\r\n\r\n")
		if b, err := io.ReadAll(c); len(b) != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("a server that is stopped answers %q, %v", b, err)
		}
		_ = c.Close()
	}
}
