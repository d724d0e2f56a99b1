package webhooktest

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"time"

	"github.com/pullthrough/pullthrough/webhook"
)

// maxBody is more bytes than any event has.
const maxBody = 1 << 20

// ServeHTTP answers a request as the receiver does that listens.
func (r *Recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	r.handlers.Add(1)
	r.mu.Unlock()
	defer r.handlers.Done()

	d := &Delivery{Time: time.Now(), Method: req.Method, Path: req.URL.RequestURI(), Header: req.Header.Clone()}
	var err error
	if d.Body, err = io.ReadAll(io.LimitReader(req.Body, maxBody)); err != nil {
		panic(http.ErrAbortHandler) // the sender has left
	}
	status, problems := r.inspect(d)
	r.mu.Lock()
	r.log = append(r.log, d)
	var f Fault
	if len(problems) == 0 {
		f = r.fault(d.Event)
	}
	r.news()
	r.mu.Unlock()
	for _, p := range problems {
		r.complain(p)
	}
	if status != 0 {
		r.answer(w, d, Fault{Status: status})
		return
	}
	r.serve(w, req, d, f)
}

func (r *Recorder) serve(w http.ResponseWriter, req *http.Request, d *Delivery, f Fault) {
	if f.Hang {
		r.mu.Lock()
		released, halted := r.released, r.halted
		r.mu.Unlock()
		select {
		case <-released:
		case <-halted:
			panic(http.ErrAbortHandler)
		case <-req.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	switch {
	case f.Do != nil:
		f.Do(w, req)
	case f.Break:
		panic(http.ErrAbortHandler)
	case f.Lose:
		r.note(d, 0, true)
		panic(http.ErrAbortHandler)
	default:
		r.answer(w, d, f)
	}
}

// answer writes a response and records it.
func (r *Recorder) answer(w http.ResponseWriter, d *Delivery, f Fault) {
	if f.RetryAfter != "" {
		w.Header().Set("Retry-After", f.RetryAfter)
	}
	status := f.Status
	if f.Redirect != "" {
		w.Header().Set("Location", f.Redirect)
		if status == 0 {
			status = http.StatusTemporaryRedirect
		}
	}
	if status == 0 {
		status = http.StatusOK
	}
	r.note(d, status, status/100 == 2)
	w.WriteHeader(status)
}

func (r *Recorder) note(d *Delivery, status int, taken bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d.Status, d.Taken = status, taken
	r.news()
}

// inspect reads the event of a request and checks both. It returns the problems and
// the status to answer with, which is 0 if there are none.
func (r *Recorder) inspect(d *Delivery) (status int, problems []string) {
	r.mu.Lock()
	secrets, contentType := slices.Clone(r.secrets), r.contentType
	r.mu.Unlock()
	if d.Method != http.MethodPost {
		return http.StatusMethodNotAllowed, []string{d.Method + " " + d.Path + ", want POST"}
	}
	if len(secrets) > 0 {
		if err := webhook.Verify(d.Header, d.Body, d.Time, secrets...); err != nil {
			return http.StatusUnauthorized, []string{err.Error()}
		}
	}
	p := &parser{header: d.Header, body: d.Body, contentType: contentType}
	d.Event, d.Encoding = p.parse()
	if id := d.Header.Get("Webhook-Id"); len(secrets) > 0 && id != d.Event.ID {
		p.wrong("webhook-id is %q, and the event's id is %q", id, d.Event.ID)
	}
	r.compare(d, p)
	if len(p.problems) > 0 {
		return http.StatusBadRequest, p.problems
	}
	return 0, nil
}

// compare checks that no other event came with the same ID.
func (r *Recorder) compare(d *Delivery, p *parser) {
	if len(p.problems) > 0 {
		return
	}
	text := string(marshal(d.Event))
	r.mu.Lock()
	defer r.mu.Unlock()
	if before, ok := r.bodies[d.Event.ID]; ok && before != text {
		p.wrong("two events have the id %s: %s and %s", d.Event.ID, before, text)
	}
	r.bodies[d.Event.ID] = text
}

// Transport returns a transport that hands each request to the receiver without a
// network, whatever its host is. It also works in the fake time of testing/synctest.
func (r *Recorder) Transport() http.RoundTripper { return direct{r} }

type direct struct{ r *Recorder }

var errBroken = errors.New("webhooktest: the connection broke")

func (d direct) RoundTrip(req *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	done := make(chan bool, 1)
	go func() {
		whole := false
		defer func() {
			if p := recover(); p != nil && p != http.ErrAbortHandler {
				panic(p)
			}
			done <- whole
		}()
		d.r.ServeHTTP(w, req.Clone(req.Context()))
		whole = true
	}()
	select {
	case whole := <-done:
		if !whole {
			return nil, errBroken
		}
		resp := w.Result()
		resp.Request = req
		return resp, nil
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
}
