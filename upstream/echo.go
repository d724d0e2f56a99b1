package upstream

import (
	"encoding/base64"
	"errors"
	"net/url"
	"slices"
	"strings"

	"github.com/pullthrough/pullthrough/auth"
)

// minSecret is the length of the shortest secret that is looked for in texts. Shorter
// ones occur in too many texts by chance.
const minSecret = 4

// repeated replaces, in an error, a text that repeats a secret.
const repeated = "left out, since it repeats what was sent"

// errRepeated replaces an error whose text repeats a secret.
var errRepeated = errors.New(repeated)

// echoFilter keeps secrets out of errors: an upstream can write what it was sent into
// everything that an error quotes.
type echoFilter struct {
	home       origin          // its host is named by the rule, and so is no echo
	credential auth.Credential // the rule's
	tokens     []string        // all that were sent, be they earned or the credential's own
}

// quote returns what an error shows of a text that an upstream wrote: what [shorten]
// leaves of it, or a note in its place if it repeats a secret.
func (f *echoFilter) quote(text string) string {
	if f.repeats(text) {
		return "(" + repeated + ")"
	}
	return shorten(text)
}

// repeats reports whether a text holds a secret of the rule's or a token: as it is, as
// it is written in a URL, or as Basic authentication writes it. Case is ignored, since
// hosts and media types arrive in lower case.
func (f *echoFilter) repeats(text string) bool {
	text = strings.ToLower(text)
	holds := func(secret string) bool {
		return len(secret) >= minSecret && strings.Contains(text, strings.ToLower(secret))
	}
	c := f.credential
	basic := base64.StdEncoding.EncodeToString([]byte(c.Username + ":" + c.Password.Reveal()))
	if !c.Password.Empty() && holds(basic) {
		return true
	}
	secrets := append([]string{c.Password.Reveal(), c.RefreshToken.Reveal()}, f.tokens...)
	return slices.ContainsFunc(secrets, func(secret string) bool {
		return holds(secret) || holds(url.QueryEscape(secret)) || holds(url.PathEscape(secret))
	})
}

// clean returns an error of a request without what would be shown of it and repeats a
// secret: the host, which an upstream chose by leading there, or the cause, which may
// quote the certificate of that host.
func (f *echoFilter) clean(err error) error {
	if _, ok := errors.AsType[*guardError](err); ok {
		return err // was made with quote
	}
	if token, ok := errors.AsType[*tokenError](err); ok {
		if !f.repeats(token.host) {
			return err
		}
		cleaned := *token // a copy, since other calls may hold the same error
		cleaned.host = repeated
		return &cleaned
	}
	u, ok := errors.AsType[*url.Error](err)
	if !ok {
		return err
	}
	asked, bad := url.Parse(u.URL)
	if bad != nil || originOf(asked) != f.home && f.repeats(asked.Host) {
		u = &url.Error{Op: u.Op, Err: u.Err}
		err = u
	}
	if f.repeats(wordingOf(u.Err).foreign) {
		err = &url.Error{Op: u.Op, URL: u.URL, Err: errRepeated}
	}
	return err
}
