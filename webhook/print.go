package webhook

import (
	"encoding/json"
	"fmt"
)

// String returns a text with the scheme and host of the receiver.
func (h HTTP) String() string {
	host := "an unknown host"
	if u, err := h.target(); err == nil {
		host = u.Scheme + "://" + u.Host
	}
	return "webhook to " + host
}

// Format prints what String returns, under every verb.
func (h HTTP) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(h.String())) }

// MarshalJSON returns what String returns, as JSON.
func (h HTTP) MarshalJSON() ([]byte, error) { return json.Marshal(h.String()) }
