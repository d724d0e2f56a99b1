// Package fakeserver is what the fakes for tests have in common: a server that
// can go down and come back, requests that hang, a log of requests, faults,
// complaints, a transport without a network, and a certificate authority. A fake
// has them as fields and says what they mean in its protocol.
package fakeserver

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"
)

// Server serves a handler on loopback, and knows which of its requests are being
// answered. Make it with [New]. Its methods are safe for concurrent use.
type Server struct {
	name    string // of the fake, for errors
	handler http.Handler
	tls     *tls.Config

	mu       sync.Mutex
	address  string       // of the first Start; it stays the same
	server   *http.Server // nil if nothing listens
	listener *listener    // of server
	release  func()       // if not nil, gives the port back that nothing listens to
	halted   chan struct{}
	released chan struct{}
	stopped  bool
	closed   bool
	open     int
	visits   sync.WaitGroup
}

// New makes a server that listens nowhere until Start. If config is nil, it speaks
// plain HTTP. A fake that listens nowhere calls [Server.Enter] all the same.
func New(name string, handler http.Handler, config *tls.Config) *Server {
	return &Server{name: name, handler: handler, tls: config, halted: make(chan struct{}), released: make(chan struct{})}
}

var errClosed = errors.New("closed for good")

// Start listens, on a free port of 127.0.0.1 the first time and on that port ever
// after. It does nothing if the server listens already.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server != nil {
		return nil
	}
	if s.closed {
		return fmt.Errorf("%s: %w", s.name, errClosed)
	}
	address := s.address
	if address == "" {
		address = "127.0.0.1:0"
	}
	s.giveBack()
	l, err := listen(address)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	// The settings are a copy, since Serve changes them, and that of a server that was stopped
	// may do so only now.
	server := &http.Server{Handler: s.handler, TLSConfig: s.tls.Clone(), ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}
	s.address, s.server, s.listener = l.Addr().String(), server, l
	s.resume()
	go func() {
		if s.tls != nil {
			_ = server.ServeTLS(l, "", "")
			return
		}
		_ = server.Serve(l)
	}()
	return nil
}

// Restart ends what Stop began. A server that never listened does not listen
// after it either: only its transport answers again.
func (s *Server) Restart() error {
	if s.Address() != "" {
		return s.Start()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("%s: %w", s.name, errClosed)
	}
	s.resume()
	return nil
}

// resume is the state after Start. The caller holds mu.
func (s *Server) resume() {
	if s.stopped {
		s.stopped, s.halted = false, make(chan struct{})
	}
}

// giveBack ends what hold began. The caller holds mu.
func (s *Server) giveBack() {
	if s.release != nil {
		s.release()
		s.release = nil
	}
}

// Address is the host and port; it is empty if the server never listened.
func (s *Server) Address() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.address
}

// Stop closes the port and every connection, as of a server that is down, and
// ends what hangs. [Server.Transport] refuses requests until Restart. On Unix
// systems no other program gets the port until Close.
func (s *Server) Stop() { s.stop(false) }

// Close stops for good: Enter refuses what comes later.
func (s *Server) Close() { s.stop(true) }

func (s *Server) stop(forGood bool) {
	s.mu.Lock()
	server := s.server
	if server != nil {
		_ = s.listener.Close()
		s.server, s.listener = nil, nil
		s.release = hold(s.address)
	}
	if forGood {
		s.giveBack()
	}
	if !s.stopped {
		s.stopped = true
		close(s.halted)
	}
	s.closed = s.closed || forGood
	s.mu.Unlock()
	if server != nil {
		_ = server.Close()
	}
}

// Wait returns when no request is being answered. After Close that stays so.
func (s *Server) Wait() { s.visits.Wait() }

// Release lets the requests go on that hang now.
func (s *Server) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.released)
	s.released = make(chan struct{})
}

// Open is how many requests are being answered.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// Visit is a request that is being answered.
type Visit struct {
	server           *Server
	halted, released <-chan struct{}
}

// Enter begins to answer a request; the caller must call Leave. It calls arrive,
// which logs the request and chooses its fault, before anybody finds the request
// in Open, and so that a later Stop or Release holds for it. After Close it
// panics with [http.ErrAbortHandler].
func (s *Server) Enter(arrive func()) *Visit {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		panic(http.ErrAbortHandler)
	}
	s.open++
	s.visits.Add(1)
	arrive()
	return &Visit{s, s.halted, s.released}
}

// Leave ends what Enter began.
func (v *Visit) Leave() {
	v.server.mu.Lock()
	v.server.open--
	v.server.mu.Unlock()
	v.server.visits.Done()
}

// Hang waits for [Server.Release]. If the client leaves or the server stops
// before, it panics with [http.ErrAbortHandler], which breaks the connection.
func (v *Visit) Hang(r *http.Request) {
	select {
	case <-v.released:
	case <-v.halted:
		panic(http.ErrAbortHandler)
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	}
}

// Transport calls the handler as [Direct] does, and refuses connections as long
// as the server is stopped.
func (s *Server) Transport() http.RoundTripper { return &transport{s, Direct(s.handler)} }

type transport struct {
	server *Server
	direct http.RoundTripper
}

// RoundTrip calls the handler.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	t.server.mu.Lock()
	stopped := t.server.stopped
	t.server.mu.Unlock()
	if stopped {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	return t.direct.RoundTrip(req)
}
