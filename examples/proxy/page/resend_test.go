package page_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/webhook"
)

// post sends the form of a delivery.
func (s *stage) post(header http.Header, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", "http://proxy.test/resend", strings.NewReader(body))
	r.Header = header.Clone()
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// TestResendWithoutJavaScript: the form does it and leads back to the page, which says so.
func TestResendWithoutJavaScript(t *testing.T) {
	s := newStage(t, hub())
	s.outbox.states = []webhook.ReceiverState{{Name: "scanner", Delivered: 1}}
	s.outbox.deliveries = map[string][]webhook.Delivery{"scanner": {{Receiver: "scanner", Event: webhook.Event{ID: "id-1", Action: "push"}, Time: time.Now()}}}
	has(t, s.get(t), `<form method="post" action="/resend"`, `name="event" value="id-1"`, `name="receiver" value="scanner"`)
	own := http.Header{"Sec-Fetch-Site": {"same-origin"}, "Origin": {"http://proxy.test"}, "Accept": {"text/html"}}
	w := s.post(own, "receiver=scanner&event=id-1")
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/?done=sent#deliveries" {
		t.Errorf("status %d, location %q", w.Code, w.Header().Get("Location"))
	}
	if got := fmt.Sprint(s.outbox.resent); got != "[scanner id-1]" {
		t.Errorf("sent again: %s", got)
	}
	body := s.get(t, "done", "sent")
	has(t, body, "The event is on its way again.")
	hasNot(t, body, "done=sent")
	for err, want := range map[error]string{
		webhook.ErrNoEvent: "not kept any more", fmt.Errorf("it is %w", webhook.ErrNoReceiver): "not kept any more", errors.New("the disk is gone"): "the log of the proxy says why",
	} {
		s.outbox.err = err
		w := s.post(own, "receiver=scanner&event=id-1")
		done := strings.TrimSuffix(strings.TrimPrefix(w.Header().Get("Location"), "/?done="), "#deliveries")
		has(t, s.get(t, "done", done), want)
	}
	s.outbox.err = errors.New("the disk is gone")
	program := http.Header{"Authorization": {"Bearer x"}}
	if w := s.post(program, "receiver=scanner&event=id-1"); w.Code != http.StatusServiceUnavailable {
		t.Errorf("a program gets status %d", w.Code)
	}
}

// TestResendIsForThisPageOnly: no other site can make a browser send the form, and nobody can
// send it where nobody may act.
func TestResendIsForThisPageOnly(t *testing.T) {
	s := newStage(t, hub())
	for name, header := range map[string]http.Header{
		"another site":              {"Sec-Fetch-Site": {"cross-site"}, "Origin": {"http://evil.test"}},
		"another site with a token": {"Sec-Fetch-Site": {"cross-site"}, "Origin": {"http://evil.test"}, "Authorization": {"Bearer x"}},
		"a sibling":                 {"Sec-Fetch-Site": {"same-site"}},
		"an old browser":            {"Origin": {"http://evil.test"}},
		"another port":              {"Origin": {"http://proxy.test:8080"}},
		"an unknown origin":         {"Origin": {"null"}},
		"a silent browser":          {"Authorization": {"Basic eDp5"}},
		"nothing at all":            {},
	} {
		if w := s.post(header, "receiver=scanner&event=id-1"); w.Code != http.StatusForbidden {
			t.Errorf("%s: status %d", name, w.Code)
		}
	}
	own := http.Header{"Sec-Fetch-Site": {"same-origin"}}
	if w := s.post(own, "receiver="+strings.Repeat("x", 1<<20)); w.Code != http.StatusBadRequest {
		t.Errorf("a long form: status %d", w.Code)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", "/resend?receiver=scanner&event=id-1", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET: status %d", w.Code)
	}
	w = httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("POST", "/", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST of the page: status %d", w.Code)
	}
	off := newStage(t, hub())
	off.Acting = false
	if w := off.post(own, "receiver=scanner&event=id-1"); w.Code != http.StatusForbidden {
		t.Errorf("acting is off: status %d", w.Code)
	}
	off.outbox.states = []webhook.ReceiverState{{Name: "scanner"}}
	off.outbox.deliveries = map[string][]webhook.Delivery{"scanner": {{Receiver: "scanner", Event: webhook.Event{ID: "id-1"}, Time: time.Now()}}}
	body := off.get(t)
	hasNot(t, body, "/resend")
	has(t, body, "when the file of the proxy has adminAccess")
	if n := len(s.outbox.resent) + len(off.outbox.resent); n != 0 {
		t.Errorf("%d events were sent again", n)
	}
}
