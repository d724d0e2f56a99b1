package admin

import (
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/webhook"
)

// API answers everything below /api/v1/. A [Server] guards it. Its fields must not change after
// first use. It is safe for concurrent use.
type API struct {
	// Cache is what is shown and acted on. It is required.
	Cache *cache.Cache
	// Store is the store of Cache. It is required.
	Store store.Store
	// Rules are the rules of Cache. If nil, there are none.
	Rules *rule.Set
	// Outbox delivers the events. If nil, there are no receivers.
	Outbox *webhook.Outbox
	// Ending is closed when the program begins to end: streams end then. If nil, they go on.
	Ending <-chan struct{}
	// Logger gets a line for everything that was done. If nil, nothing is logged.
	Logger *slog.Logger
}

// ServeHTTP answers a request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	WriteError(w, notFound(r))
}

// seconds writes a duration as whole seconds, at least one.
func seconds(d time.Duration) string {
	return strconv.FormatInt(max(1, int64((d+time.Second-1)/time.Second)), 10)
}
