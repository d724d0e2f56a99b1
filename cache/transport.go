package cache

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
)

// Transport returns an http.RoundTripper that answers every request by the cache,
// whatever the URL's host is, without a listener: registry clients such as oras-go or
// go-containerregistry read through the cache with it. Bodies are streamed; the body of a
// response that cannot be finished ends with [io.ErrUnexpectedEOF]. A panic of a hook
// reaches the caller, or the reader of the body as an error. It is safe for concurrent
// use.
func (c *Cache) Transport() http.RoundTripper { return transport{c} }

// transport is a RoundTripper that calls a handler.
type transport struct{ handler http.Handler }

// RoundTrip returns when the handler has written its header.
func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer req.Body.Close()
	}
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	asked := req.Clone(req.Context())
	asked.RequestURI = req.URL.RequestURI()
	if asked.Host == "" {
		asked.Host = req.URL.Host
	}
	if asked.Body == nil {
		asked.Body = http.NoBody
	}
	body, w := io.Pipe()
	p := &pipeWriter{header: http.Header{}, body: w, head: req.Method == http.MethodHead, ready: make(chan struct{})}
	go p.serve(t.handler, asked)
	select {
	case <-p.ready:
	case <-req.Context().Done():
		_ = body.CloseWithError(req.Context().Err()) // the handler's next Write fails
		return nil, req.Context().Err()
	}
	if p.panicked != nil {
		panic(p.panicked)
	}
	if p.err != nil {
		return nil, p.err
	}
	resp := &http.Response{
		Status: strconv.Itoa(p.status) + " " + http.StatusText(p.status), StatusCode: p.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: p.sent, Body: body, ContentLength: contentLength(p.sent), Request: req,
	}
	if p.head {
		resp.Body = http.NoBody
	}
	return resp, nil
}

// pipeWriter is a ResponseWriter whose body is read as a response is.
type pipeWriter struct {
	header http.Header
	body   *io.PipeWriter
	head   bool

	once     sync.Once
	ready    chan struct{} // closed when the fields below are set
	status   int
	sent     http.Header
	err      error
	panicked any // what the handler panicked with before it sent a header
}

// serve calls the handler and ends the body: cleanly, or with an error if the handler
// gave up.
func (p *pipeWriter) serve(h http.Handler, req *http.Request) {
	defer func() {
		switch v := recover(); v {
		case nil:
			p.give(http.StatusOK, nil, nil)
			_ = p.body.Close()
		case http.ErrAbortHandler:
			p.give(0, io.ErrUnexpectedEOF, nil)
			_ = p.body.CloseWithError(io.ErrUnexpectedEOF)
		default:
			p.give(0, nil, v)
			_ = p.body.CloseWithError(fmt.Errorf("cache: the handler panicked: %v", v))
		}
	}()
	h.ServeHTTP(p, req)
}

// give lets RoundTrip return, the first time that it is called.
func (p *pipeWriter) give(status int, err error, panicked any) {
	p.once.Do(func() {
		p.status, p.err, p.panicked, p.sent = status, err, panicked, p.header.Clone()
		close(p.ready)
	})
}

// Header returns the header that is sent with the first WriteHeader or Write.
func (p *pipeWriter) Header() http.Header { return p.header }

// WriteHeader sends the header.
func (p *pipeWriter) WriteHeader(status int) {
	if status >= 200 {
		p.give(status, nil, nil)
	}
}

// Write sends a piece of the body, and waits until it was read.
func (p *pipeWriter) Write(b []byte) (int, error) {
	p.give(http.StatusOK, nil, nil)
	if p.head {
		return len(b), nil
	}
	return p.body.Write(b)
}

// Flush does nothing: every Write is read at once.
func (p *pipeWriter) Flush() { p.give(http.StatusOK, nil, nil) }

// contentLength is the length that a header announces, -1 if it does not.
func contentLength(h http.Header) int64 {
	n, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64)
	if err != nil {
		return -1
	}
	return n
}
