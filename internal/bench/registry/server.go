package registry

import (
	"bytes"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// Server is a registry that listens on loopback.
type Server struct {
	// Host is its address and port.
	Host string
	web  *http.Server
	open atomic.Int64
	// Requests since the last Reset: manifests and tags, and GETs of blobs.
	asked, fetched atomic.Int64
}

// Start serves a catalog on a free port of 127.0.0.1 until Close. Link says how far
// away the registry is; the zero Link is no distance.
func Start(c *Catalog, link Link) (*Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{Host: l.Addr().String()}
	// The log would tell of each client that left.
	s.web = &http.Server{Handler: link.delay(s.counted(Handler(c))), ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: 10 * time.Second}
	if link.Delay > 0 {
		s.web.ConnContext = withTrips
	}
	go s.web.Serve(link.listener(l)) // ends with Close
	return s, nil
}

// Close ends all connections.
func (s *Server) Close() error { return s.web.Close() }

// Open returns how many requests are under way.
func (s *Server) Open() int64 { return s.open.Load() }

// Reset forgets the requests that were counted.
func (s *Server) Reset() { s.asked.Store(0); s.fetched.Store(0) }

// Asked is the number of requests for manifests since the last Reset, and Fetched that
// of GETs of blobs.
func (s *Server) Asked() int64   { return s.asked.Load() }
func (s *Server) Fetched() int64 { return s.fetched.Load() }

// counted counts requests.
func (s *Server) counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s.open.Add(1)
		defer s.open.Add(-1)
		switch {
		case strings.Contains(req.URL.Path, "/manifests/"):
			s.asked.Add(1)
		case req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/blobs/"):
			s.fetched.Add(1)
		}
		h.ServeHTTP(w, req)
	})
}

// Handler serves a catalog with nothing around it: no log, no lock that is held, and
// headers that are made once.
func Handler(c *Catalog) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodGet && req.Method != http.MethodHead {
			http.Error(w, "read-only", http.StatusMethodNotAllowed)
			return
		}
		if req.URL.Path == "/v2/" {
			return
		}
		o := c.find(req.URL.Path)
		if o == nil {
			http.NotFound(w, req)
			return
		}
		o.serve(w, req)
	})
}

// serve answers a GET or HEAD, with ranges.
func (o *Object) serve(w http.ResponseWriter, req *http.Request) {
	h := w.Header()
	h["Content-Type"], h["Docker-Content-Digest"] = o.ctype, o.digest
	switch {
	case o.Body == nil:
		f, err := os.Open(o.File)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer f.Close()
		http.ServeContent(w, req, "", time.Time{}, f)
	case req.Header.Get("Range") != "":
		http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(o.Body))
	default:
		h["Content-Length"] = o.length
		_, _ = w.Write(o.Body) // net/http holds it back at a HEAD; and the client may have left
	}
}
