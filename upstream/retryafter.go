package upstream

import (
	"net/http"
	"time"

	"github.com/pullthrough/pullthrough/internal/retryafter"
)

// maxRetryAfter bounds how long an upstream can tell us to stay away.
const maxRetryAfter = 24 * time.Hour

// retryAfter returns how long an answer that came at now asks to stay away.
func retryAfter(h http.Header, now time.Time) time.Duration {
	return retryafter.Parse(h, now, maxRetryAfter)
}
