package upstream

import (
	"errors"
	"fmt"
)

// maxShown is how many characters of a text that somebody else wrote an error shows.
const maxShown = 100

// shorten returns what an error shows of a text that somebody else wrote: its first
// characters, in quotes, with unprintable ones escaped. No other function decides how
// much of such a text is shown.
func shorten(text string) string { return fmt.Sprintf("%.*q", maxShown, text) }

// reasonOf returns what clients may be told about err, or nothing if no error in its
// chain knows.
func reasonOf(err error) string {
	var r interface{ reason() string }
	if errors.As(err, &r) {
		return r.reason()
	}
	return ""
}

// guardError reports that an upstream led to a place to which no request may be sent.
// Neither text holds a URL.
type guardError struct {
	log    string // may name a host
	client string
}

func (e *guardError) Error() string  { return e.log }
func (e *guardError) reason() string { return e.client }

// errAddress reports an address that an upstream named and to which no request can be
// sent.
var errAddress = &guardError{"the upstream leads to an address that cannot be read", "it leads to an address that cannot be used"}

// unusable reports why a response cannot be used.
type unusable struct {
	log    string // may quote the upstream
	client string
}

func (u unusable) Error() string  { return u.log }
func (u unusable) reason() string { return u.client }

// quoting is like [unusable], but its text for the log quotes the upstream and is not
// complete until [response.quoted] has decided what may be shown. Until then its
// text is that for clients, which quotes nothing.
type quoting struct {
	format string   // for the log, with a %s for each element of quotes
	quotes []string // texts of the upstream
	client string
}

func (q *quoting) Error() string  { return q.client }
func (q *quoting) reason() string { return q.client }

// cause is an error whose text is safe to show. It wraps one whose text may hold a URL
// with a signature, a part of a body or an address on this side.
type cause struct {
	text string
	err  error
}

func (c *cause) Error() string { return c.text }
func (c *cause) Unwrap() error { return c.err }
