package page

import (
	"errors"
	"net/http"
	"strings"

	"github.com/pullthrough/pullthrough/webhook"
)

// resendPath is where the form of a delivery goes.
const resendPath = "/resend"

// maxForm is how many bytes a form may have.
const maxForm = 8 << 10

// resend sends an event again. The handler before this one has seen the proof that the
// client may act; this one makes sure that no other site made a browser send the form.
func (p *Page) resend(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		http.Error(w, "only POST is allowed here", http.StatusMethodNotAllowed)
		return
	}
	if !p.Acting || p.Outbox == nil {
		http.Error(w, "off: nobody may act here", http.StatusForbidden)
		return
	}
	if !ownSite(r) {
		http.Error(w, "refused: the form was not sent from this page", http.StatusForbidden)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "the form cannot be read", http.StatusBadRequest)
		return
	}
	receiver, event := r.PostForm.Get(keyReceiver), r.PostForm.Get("event")
	done, status := "sent", http.StatusOK
	switch err := p.Outbox.Resend(r.Context(), receiver, event); {
	case errors.Is(err, webhook.ErrNoEvent), errors.Is(err, webhook.ErrNoReceiver):
		done, status = "gone", http.StatusNotFound
	case err != nil:
		done, status = "failed", http.StatusServiceUnavailable
		p.log("an event could not be sent again", receiver, event, "error", err)
	default:
		p.log("an event is sent again, as the page was told", receiver, event)
	}
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		http.Redirect(w, r, "/?"+keyDone+"="+done+"#deliveries", http.StatusSeeOther)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(doneText(done))) // a client that has left needs no answer
}

// log writes what was done.
func (p *Page) log(text, receiver, event string, more ...any) {
	if p.Logger != nil {
		p.Logger.Info(text, append([]any{"receiver", short(receiver, 300), "event", short(event, 100)}, more...)...)
	}
}

// ownSite reports whether this page sent a form. A browser that says nothing about where a
// form comes from sends the password that it keeps from anywhere, so such a form needs a
// token that only a program adds.
func ownSite(r *http.Request) bool {
	if r.Header.Get("Sec-Fetch-Site") == "" && r.Header.Get("Origin") == "" {
		return strings.HasPrefix(strings.ToLower(r.Header.Get("Authorization")), "bearer ")
	}
	var protection http.CrossOriginProtection
	return protection.Check(r) == nil
}

// doneText says what became of a form. Other values than those of resend have no text.
func doneText(done string) string {
	switch done {
	case "sent":
		return "The event is on its way again."
	case "gone":
		return "That event is not kept any more, so it cannot be sent again."
	case "failed":
		return "The event could not be taken; the log of the proxy says why."
	}
	return ""
}
