package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pullthrough/pullthrough/internal/retryafter"
)

// Encoding is how an event is written into a request.
type Encoding int

// The encodings.
const (
	// ACR is the event's JSON with Content-Type application/json.
	ACR Encoding = iota
	// CloudEventsStructured is a CloudEvents 1.0 event in JSON whose data is the
	// event, as Event Grid sends for a registry.
	CloudEventsStructured
	// CloudEventsBinary is the event's JSON with the attributes of CloudEvents 1.0
	// in headers.
	CloudEventsBinary
)

const (
	defaultTimeout = 30 * time.Second
	maxRedirects   = 5
	maxRetryAfter  = 24 * time.Hour // bounds how long a receiver can send us away
)

// What a Delivery keeps of a request or a response, in bytes.
const (
	maxContent = 4 << 10
	maxHeader  = 8 << 10
)

// HTTP posts events to one receiver. A response with a 2xx status means that the
// receiver took the event over. Fields must not change after first use. An HTTP is
// safe for concurrent use. Printed, it shows only the receiver's host, because the
// rest of its fields may be secret.
type HTTP struct {
	// URL is where events are posted. A password in it is sent as Basic
	// credentials.
	URL string
	// Header is added to every request. It may replace Content-Type, User-Agent and
	// Host. If nil, no header is added.
	Header http.Header
	// Encoding is how events are written. If zero, they are written as [ACR].
	Encoding Encoding
	// Source is the source attribute of CloudEvents, such as
	// /subscriptions/.../registries/NAME. If empty, it is /pullthrough.
	Source string
	// Secrets sign requests as Standard Webhooks 1.0 does (webhook-id,
	// webhook-timestamp, webhook-signature): "whsec_" and base64 of 24 to 64
	// bytes. While a secret is being replaced, name the old and the new one. If nil,
	// requests are not signed, as those of ACR are not.
	Secrets []string
	// Timeout bounds a request with its redirects. If zero, it is 30 seconds.
	Timeout time.Duration
	// Transport sends the requests. If nil, it is [http.DefaultTransport].
	Transport http.RoundTripper
}

// StatusError reports a receiver that answered with another status than 2xx.
type StatusError struct {
	Host       string
	StatusCode int
	// RetryAfter is how long the receiver wants to be left alone. It is zero if the
	// response did not say.
	RetryAfter time.Duration
}

// Error names the host and the status.
func (e *StatusError) Error() string {
	return fmt.Sprintf("webhook: %s answered %d %s", e.Host, e.StatusCode, http.StatusText(e.StatusCode))
}

// ErrConfig reports fields of an [HTTP] or an [Outbox] that cannot be used.
var ErrConfig = errors.New("webhook: not usable")

// Check returns an error that says what is wrong with the fields, or nil. The error
// wraps [ErrConfig] and shows no secret.
func (h *HTTP) Check() error {
	if _, err := h.target(); err != nil {
		return err
	}
	if _, _, err := h.Encoding.encode(Event{}, h.Source); err != nil {
		return err
	}
	if err := h.checkHeader(); err != nil {
		return err
	}
	_, err := h.keys()
	return err
}

func (h *HTTP) checkHeader() error {
	for name, values := range h.Header {
		if name == "" || strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, c) }) {
			return fmt.Errorf("%w: %q is no name of a header", ErrConfig, name)
		}
		if slices.ContainsFunc(values, controls) {
			return fmt.Errorf("%w: the header %s has a control character in its value", ErrConfig, name)
		}
	}
	return nil
}

func (h *HTTP) target() (*url.URL, error) {
	u, err := url.Parse(h.URL)
	switch {
	case err != nil || u.Hostname() == "" || !validPort(u.Port()):
		return nil, fmt.Errorf("%w: the URL of a receiver is not valid: http://HOST/PATH or https://HOST/PATH is expected", ErrConfig) // without err, whose text may hold a secret
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("%w: the URL of a receiver at %s is neither http nor https", ErrConfig, u.Host)
	}
	return u, nil
}

// validPort reports whether a port can be dialled. An empty port stands for that of
// the scheme.
func validPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && n > 0
}

// controls reports whether a value holds a control character, which no header may
// (RFC 9110, 5.5).
func controls(value string) bool {
	return strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f })
}

// Send implements [Sink].
func (h *HTTP) Send(ctx context.Context, ev Event) error { return h.Deliver(ctx, ev).Err }

// Deliver implements [Deliverer].
func (h *HTTP) Deliver(ctx context.Context, ev Event) Delivery {
	d := Delivery{Event: ev, Time: time.Now().UTC()}
	d.Err = h.deliver(ctx, ev, &d)
	d.Duration = time.Since(d.Time)
	if d.Err != nil {
		d.Error = d.Err.Error()
	}
	return d
}

func (h *HTTP) deliver(ctx context.Context, ev Event, d *Delivery) error {
	timeout := h.Timeout
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, body, err := h.request(ctx, ev, d.Time)
	if err != nil {
		return err
	}
	d.Request = h.sentRequest(req, body)
	secret := h.secretsOf(req)
	resp, err := h.client().Do(req)
	if resp != nil { // also beside an error: a redirect that is not followed
		defer resp.Body.Close()
		d.Response = responseOf(resp, secret)
	}
	if err != nil {
		return withoutURL(req.URL.Host, err, secret)
	}
	if resp.StatusCode/100 == 2 {
		return nil
	}
	return &StatusError{Host: req.URL.Host, StatusCode: resp.StatusCode, RetryAfter: retryafter.Parse(resp.Header, d.Time, maxRetryAfter)}
}

// request returns the request for an event, and its body.
func (h *HTTP) request(ctx context.Context, ev Event, now time.Time) (*http.Request, []byte, error) {
	u, err := h.target()
	if err != nil {
		return nil, nil, err
	}
	if err := h.checkHeader(); err != nil {
		return nil, nil, err
	}
	user := u.User
	u.User = nil // sent as a header, which a redirect keeps
	body, header, err := h.Encoding.encode(ev, h.Source)
	if err != nil {
		return nil, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: the URL of a receiver at %s", ErrConfig, u.Host)
	}
	req.Header = header
	req.Header.Set("User-Agent", "pullthrough-webhook/1")
	for k, v := range h.Header {
		req.Header[http.CanonicalHeaderKey(k)] = v
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	if user != nil && req.Header.Get("Authorization") == "" {
		password, _ := user.Password()
		req.SetBasicAuth(user.Username(), password)
	}
	if err := h.sign(req.Header, ev.ID, now, body); err != nil {
		return nil, nil, err
	}
	return req, body, nil
}

// client follows redirects within the receiver's host only, so that neither the
// event nor a secret header goes elsewhere.
func (h *HTTP) client() *http.Client {
	return &http.Client{Transport: h.Transport, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		first := via[0].URL
		switch {
		case req.URL.Host != first.Host || req.URL.Scheme != first.Scheme:
			return errors.New("it redirects to another host, which is not followed")
		case req.Method != http.MethodPost:
			return errors.New("its redirect does not keep the method; 307 and 308 do")
		case len(via) > maxRedirects:
			return errors.New("too many redirects")
		}
		return nil
	}}
}
