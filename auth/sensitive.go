package auth

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

const redacted = "REDACTED"

// Sensitive is a text that must not be printed, such as a password or a token. Every fmt
// verb, slog and JSON print REDACTED; only [Sensitive.Reveal] returns the text. The zero
// value is empty. The text is behind a pointer so that fmt, which cannot call methods of
// unexported fields, prints an address instead.
type Sensitive struct{ text *string }

// NewSensitive wraps text.
func NewSensitive(text string) Sensitive {
	if text == "" {
		return Sensitive{}
	}
	return Sensitive{text: &text}
}

// Reveal returns the text.
func (s Sensitive) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Empty reports whether there is no text.
func (s Sensitive) Empty() bool { return s.text == nil }

// Equal compares two texts in constant time.
func (s Sensitive) Equal(o Sensitive) bool {
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(o.Reveal())) == 1
}

// String returns REDACTED, or an empty string if there is no text.
func (s Sensitive) String() string {
	if s.text == nil {
		return ""
	}
	return redacted
}

// Format writes REDACTED for every verb and flag.
func (s Sensitive) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue keeps the text out of slog.
func (s Sensitive) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText keeps the text out of JSON and every other text encoding.
func (s Sensitive) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
