package webhook

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// String tells the receiver's host.
func (h HTTP) String() string {
	host := "an unknown host"
	if u, err := h.target(); err == nil {
		host = u.Scheme + "://" + u.Host
	}
	return "webhook to " + host
}

// Format prints the host under every verb.
func (h HTTP) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(h.String())) }

// MarshalJSON writes the host.
func (h HTTP) MarshalJSON() ([]byte, error) { return json.Marshal(h.String()) }

// masked stands for what is not shown.
const masked = "REDACTED"

// mask hides the values of headers.
func mask(h http.Header, names ...string) {
	for _, name := range names {
		if values := h[http.CanonicalHeaderKey(name)]; values != nil {
			h[http.CanonicalHeaderKey(name)] = slices.Repeat([]string{masked}, len(values))
		}
	}
}

// scrub takes the values of configured headers out of what a receiver answers:
// some echo what they got.
func (h *HTTP) scrub(text string) string {
	for _, values := range h.Header {
		for _, v := range values {
			if len(v) >= 4 {
				text = strings.ReplaceAll(text, v, masked)
			}
		}
	}
	return text
}

// told notes a request without what may be secret: the values of the headers
// that were configured, signatures, and everything of the URL but its host.
func (h *HTTP) told(req *http.Request, body []byte) *SentRequest {
	header := req.Header.Clone()
	mask(header, "Authorization", headerSignature)
	for name := range h.Header {
		mask(header, name)
	}
	return &SentRequest{Method: req.Method, URI: req.URL.Scheme + "://" + req.URL.Host, Version: "HTTP/1.1", Header: header, Content: string(body)}
}
