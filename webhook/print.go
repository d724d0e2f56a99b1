package webhook

import (
	"encoding/json"
	"fmt"
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
