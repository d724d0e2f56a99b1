package webhooktest

import (
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/pullthrough/pullthrough/webhook"
)

// maxBody is more bytes than any event has.
const maxBody = 1 << 20

// ServeHTTP answers a request as the receiver does that listens.
func (r *Recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	d := Delivery{Time: time.Now(), Method: req.Method, Path: req.URL.RequestURI(), Header: req.Header.Clone()}
	var err error
	if d.Body, err = io.ReadAll(io.LimitReader(req.Body, maxBody)); err != nil {
		panic(http.ErrAbortHandler) // the sender has left
	}
	status, problems := r.inspect(&d)
	f := Fault{Status: status}
	var edit func(func(*Delivery))
	visit := r.server.Enter(func() {
		if status == 0 {
			f = r.fault(d.Event)
		}
		edit = r.log.Add(d)
	})
	defer visit.Leave()
	for _, p := range problems {
		r.complaints.Complain("%s", p)
	}
	if f.Hang {
		visit.Hang(req)
	}
	answer(w, req, f, func(status int, taken bool) {
		edit(func(d *Delivery) { d.Status, d.Taken = status, taken })
	})
}

// answer answers as the fault says. It notes the status and whether the event is
// taken over before the sender can know.
func answer(w http.ResponseWriter, req *http.Request, f Fault, note func(status int, taken bool)) {
	switch {
	case f.Do != nil:
		f.Do(w, req)
		return
	case f.Break:
		panic(http.ErrAbortHandler)
	case f.Lose:
		note(0, true)
		panic(http.ErrAbortHandler)
	}
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
	note(status, status/100 == 2)
	w.WriteHeader(status)
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
