package upstream

import (
	"fmt"
	"net/http"
	"time"
)

// tokenError reports a token server that returned no token.
type tokenError struct {
	host       string // canonical
	elsewhere  bool   // it is the token server of a registry to which a redirect led
	status     int
	body       ociError
	retryAfter time.Duration
}

func (e *tokenError) Error() string {
	return fmt.Sprintf("the token server %s answered with status %d", shorten(e.host), e.status)
}

// checkTokenResponse returns the response of a token server if it may hold a token, and
// a [*tokenError] otherwise: the error that oras-go makes of a refusal lacks
// Retry-After.
func checkTokenResponse(resp *http.Response, elsewhere bool) (*http.Response, error) {
	if resp.StatusCode == http.StatusOK && checkEncoding(resp.Header) == nil {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, &tokenError{hostOf(resp.Request.URL), elsewhere, resp.StatusCode, readOCIError(resp), retryAfter(resp.Header, time.Now())}
}
