// Package page is the status page of a proxy: one page for the people who operate it, that
// says what is well, what is not, and what to do next.
//
// The page is made on the server and complete without JavaScript. With JavaScript, it asks for itself
// every two seconds and changes what has changed, while it is visible. It loads nothing from
// other hosts, and its Content-Security-Policy allows nothing but its own files.
//
// Whatever the number of rules, repositories and copies, the page shows a bounded number of
// them and says of how many.
package page

import (
	"bytes"
	"context"
	"html/template"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/proxy/watch"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/webhook"
)

// Page is the handler of the page and its files. Its fields must not change after first use.
// It is safe for concurrent use.
type Page struct {
	// Cache is what is shown. It is required.
	Cache Cache
	// Record is what the cache did lately. It is required.
	Record Record
	// Rules are the rules of Cache. If nil, there are none.
	Rules *rule.Set
	// Size returns the size of the store. If nil, it is not known.
	Size func(context.Context) (store.Size, error)
	// Ready returns why the proxy is not ready, such as a store that cannot be written. If
	// nil, that is not asked.
	Ready func(context.Context) error
	// Credentials returns the credential sets that are in force. If nil, those that rules use
	// are shown.
	Credentials func() []*auth.CredentialSet
	// Held returns the tags whose new image is not admitted, in a list that the page may
	// reorder. If nil, nothing is held.
	Held func() []cache.HeldTag
	// Gated reports whether a rule may hold images. If nil, only what is held says so.
	Gated func() bool
	// Fleet is this replica among others. If nil, there are no others.
	Fleet Replicas
	// Outbox delivers the events. If nil, there are no receivers.
	Outbox Outbox
	// Address is where clients reach the cache, such as 127.0.0.1:5000. If empty, commands
	// have a word in its place.
	Address string
	// Try is a name that a rule covers, for a first command. If empty, there is none.
	Try string
	// Acting says that there is a way to prove that one may act, so that events can be sent
	// again from the page. The handler before this one lets only those through with POST.
	Acting bool
	// Logger gets what could not be rendered, and what was done from the page. If nil,
	// nothing is logged.
	Logger *slog.Logger

	once   sync.Once
	pages  *template.Template
	assets map[string]asset
	size   sizes
	making chan struct{} // holds one value for each page that is being made
}

// atOnce is how many pages are made at the same time. Others wait, so that many open pages
// leave the machine to the clients of the cache.
const atOnce = 4

// Cache is the part of [cache.Cache] that the page needs.
type Cache interface {
	CopiesPage(cache.CopyFilter) cache.CopyPage
	Explain(ctx context.Context, repository, reference string) (cache.Explanation, error)
	Stats() cache.Stats
}

// Record is the part of [watch.Recorder] that the page needs.
type Record interface {
	Pulls(watch.Filter) []watch.Pull
	Rules() []watch.RuleState
	Totals() watch.Counts
	Hosts() []watch.HostState
	History(day bool) []watch.Point
}

// Outbox is the part of [webhook.Outbox] that the page needs.
type Outbox interface {
	States() []webhook.ReceiverState
	Deliveries(receiver string) ([]webhook.Delivery, error)
	Resend(ctx context.Context, receiver, eventID string) error
}

// policy is the Content-Security-Policy: files of this host, and no code or style inside of the page.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// ServeHTTP answers a request.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.once.Do(p.load)
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	// With no-referrer, browsers would say of the page's own forms that they come from nowhere.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if r.URL.Path == resendPath {
		p.resend(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD are allowed here", http.StatusMethodNotAllowed)
		return
	}
	if a, ok := p.assets[r.URL.Path]; ok {
		a.serve(w, r)
		return
	}
	if r.URL.Path != "/" {
		http.Error(w, "nothing is here; the status page is at /", http.StatusNotFound)
		return
	}
	p.render(w, r)
}

// render answers with the page.
func (p *Page) render(w http.ResponseWriter, r *http.Request) {
	body, err := p.make(r)
	if err != nil {
		if p.Logger != nil && r.Context().Err() == nil {
			p.Logger.Error("the status page could not be made", "error", err)
		}
		http.Error(w, "the page could not be made; the log of the proxy says why", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	_, _ = w.Write(body.Bytes()) // a client that has left needs no answer
}

// make makes the page. A slow reader of it keeps no slot.
func (p *Page) make(r *http.Request) (body bytes.Buffer, err error) {
	select {
	case p.making <- struct{}{}:
		defer func() { <-p.making }()
	case <-r.Context().Done():
		return body, context.Cause(r.Context())
	}
	v := p.look(r.Context(), parseQuery(r.URL.Query()), time.Now())
	v.Proved = proved(r)
	err = p.pages.ExecuteTemplate(&body, "page.html", v)
	return body, err
}

// proved reports whether a browser shows a proof with each request by itself.
func proved(r *http.Request) bool {
	return r.Header.Get("Authorization") != "" || r.TLS != nil && len(r.TLS.VerifiedChains) > 0
}
