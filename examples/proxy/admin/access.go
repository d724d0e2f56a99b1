package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/pullthrough/pullthrough/auth"
)

// MinToken is the length of the shortest token, in bytes, that [Access] takes.
const MinToken = 16

// Access says who may read and who may act. Its zero value lets nobody act, and nobody read.
type Access struct {
	// Token is the secret of those who may act: a request shows it as its bearer token, or,
	// for browsers, as the password of Basic authentication with any user name. It is read at
	// every use. If nil, no token is taken.
	Token auth.Secret
	// Certificates says that a client certificate which the TLS server has verified may act.
	Certificates bool
	// OpenReading lets everybody read who reaches the listener. It is meant for loopback.
	OpenReading bool
	// Names are the names under which the listener is known, in lower case and without a
	// port. localhost and IP addresses need no entry, since no other site can take them
	// over: a request for another name is refused, as it may come from a browser whose
	// name server lies (DNS rebinding).
	Names []string
}

// Acting reports whether anybody may act.
func (a *Access) Acting() bool { return a.Token != nil || a.Certificates }

// call guards the API.
func (a *Access) call(r *http.Request) *Error {
	if err := a.named(r); err != nil {
		return err
	}
	if err := sameSite(r); err != nil {
		return err
	}
	if safe(r) {
		return a.read(r)
	}
	return a.prove(r)
}

// scrape guards the metrics.
func (a *Access) scrape(r *http.Request) *Error {
	if err := readOnly(r); err != nil {
		return err
	}
	return a.named(r)
}

// visit guards the page: another site may lead to it, but not use it.
func (a *Access) visit(r *http.Request) *Error {
	if err := a.named(r); err != nil {
		return err
	}
	if safe(r) {
		return a.read(r)
	}
	if err := sameSite(r); err != nil {
		return err
	}
	return a.prove(r)
}

// act guards what even to read needs a proof.
func (a *Access) act(r *http.Request) *Error {
	if err := a.named(r); err != nil {
		return err
	}
	if err := sameSite(r); err != nil {
		return err
	}
	return a.prove(r)
}

// named refuses a request for a name that is none of the listener's.
func (a *Access) named(r *http.Request) *Error {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil || host == "localhost" || slices.Contains(a.Names, host) {
		return nil
	}
	return &Error{Status: http.StatusMisdirectedRequest, Code: CodeHost,
		Message: "this is not " + short(r.Host) + ": the name is none of localhost, IP addresses and adminAccess.names"}
}

// read refuses a request that may not read.
func (a *Access) read(r *http.Request) *Error {
	if a.OpenReading {
		return nil
	}
	if !a.Acting() {
		return &Error{Status: http.StatusForbidden, Code: CodeOff,
			Message: "off: the admin address can be reached by other machines, so reading needs a token or a client certificate; set adminAccess in the file of the proxy"}
	}
	return a.prove(r)
}

// prove refuses a request that does not prove that it may act.
func (a *Access) prove(r *http.Request) *Error {
	if !a.Acting() {
		return &Error{Status: http.StatusForbidden, Code: CodeOff,
			Message: "off: nobody may act here, since neither a token nor a client certificate is configured; set adminAccess in the file of the proxy"}
	}
	if a.Certificates && r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return nil
	}
	given := proof(r)
	if a.Token == nil || given == "" {
		return &Error{Status: http.StatusUnauthorized, Code: CodeUnauthorized, Message: "this needs " + a.wants()}
	}
	match, err := a.matches(r.Context(), given)
	switch {
	case err != nil:
		return &Error{Status: http.StatusServiceUnavailable, Code: CodeToken, Message: "the token of the proxy cannot be read now; its log says why", Err: err}
	case !match:
		return &Error{Status: http.StatusUnauthorized, Code: CodeUnauthorized, Message: "the token is wrong"}
	}
	return nil
}

// wants names what proves that a client may act.
func (a *Access) wants() string {
	switch {
	case a.Token == nil:
		return "a client certificate"
	case a.Certificates:
		return "a token (Authorization: Bearer TOKEN) or a client certificate"
	}
	return "a token (Authorization: Bearer TOKEN)"
}

// matches compares a token with the right one. It compares hashes in constant time, so that
// neither content nor length shows in how long it takes.
func (a *Access) matches(ctx context.Context, given string) (bool, error) {
	secret, _, err := a.Token.Read(ctx)
	if err != nil {
		return false, err
	}
	want := secret.Reveal()
	if len(want) < MinToken {
		return false, errShortToken
	}
	x, y := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(want))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1, nil
}

// proof returns the token that a request shows, or an empty string.
func proof(r *http.Request) string {
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	_, password, _ := r.BasicAuth()
	return password
}

// challenge makes a browser ask its user for the token.
func (a *Access) challenge(w http.ResponseWriter, _ *http.Request, err *Error) {
	if err.Status != http.StatusUnauthorized || a.Token == nil {
		return
	}
	w.Header().Add("WWW-Authenticate", `Bearer realm="proxy admin"`)
	w.Header().Add("WWW-Authenticate", `Basic realm="proxy admin: any user, the token as password", charset="UTF-8"`)
}

// sameSite refuses a request that another site made a browser send.
func sameSite(r *http.Request) *Error {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
	default:
		return &Error{Status: http.StatusForbidden, Code: CodeCrossSite, Message: "refused: another site made the browser send this (Sec-Fetch-Site)"}
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return nil
	}
	if _, host, ok := strings.Cut(origin, "://"); ok && strings.EqualFold(host, r.Host) {
		return nil
	}
	return &Error{Status: http.StatusForbidden, Code: CodeCrossSite, Message: "refused: another site made the browser send this (Origin)"}
}

// safe reports whether a method only reads.
func safe(r *http.Request) bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }

// readOnly refuses all methods that do not only read.
func readOnly(r *http.Request) *Error {
	if safe(r) {
		return nil
	}
	return &Error{Status: http.StatusMethodNotAllowed, Code: CodeMethod, Message: "only GET and HEAD are allowed here"}
}
