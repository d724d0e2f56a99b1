package fakeserver

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
)

// Direct is a transport that calls a handler in memory, whatever the host, so that
// it works in a bubble of testing/synctest and with the bubble's clock. An answer
// is complete before its header arrives. If the handler panics with
// [http.ErrAbortHandler], the client sees a connection that breaks after what was
// written so far.
func Direct(h http.Handler) http.RoundTripper { return direct{h} }

type direct struct{ handler http.Handler }

// RoundTrip calls the handler. It does not wait for one that goes on after the
// request's context has ended.
func (d direct) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	in := req.Clone(req.Context())
	if in.Host == "" {
		in.Host = req.URL.Host
	}
	if in.Body == nil {
		in.Body = http.NoBody
	}
	body := in.Body // a handler may replace it
	w := httptest.NewRecorder()
	whole := make(chan bool, 1)
	go func() {
		defer body.Close()
		finished := false
		defer func() {
			if p := recover(); p != nil && p != http.ErrAbortHandler {
				panic(p)
			}
			whole <- finished
		}()
		d.handler.ServeHTTP(w, in)
		finished = true
	}()
	select {
	case ok := <-whole:
		return answer(w, req, ok)
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
}

// answer is what the client gets of what was written.
func answer(w *httptest.ResponseRecorder, req *http.Request, whole bool) (*http.Response, error) {
	switch {
	case whole:
		resp := w.Result()
		resp.Request = req
		return resp, nil
	case req.Context().Err() != nil:
		return nil, req.Context().Err()
	case w.Body.Len() == 0:
		return nil, io.ErrUnexpectedEOF
	}
	resp := w.Result()
	resp.Request = req
	resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(w.Body.Bytes()), broken{}))
	return resp, nil
}

// broken is a connection that breaks.
type broken struct{}

// Read fails.
func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
