package gate

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pullthrough/pullthrough/auth"
)

// HTTP is a gate that posts each question as JSON. 2xx admits. 403 and 409 refuse, with the
// first line of the body as the reason. 425, 429 and 503 hold, for as long as Retry-After
// says, or a minute. Every other response is no answer, and redirects are not followed.
type HTTP struct {
	// URL and Headers are read at each question.
	URL     auth.Secret
	Headers map[string]auth.Secret
	// Client sends the requests; see [NewClient]. If nil, [http.DefaultClient] does. Its
	// CheckRedirect is not used.
	Client *http.Client
}

// NewClient returns a client for gates that trusts these authorities, or those of the
// system if roots is nil. Each call makes connections of its own.
func NewClient(roots *x509.CertPool) *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	t.MaxResponseHeaderBytes, t.MaxIdleConnsPerHost = 64<<10, atOnce
	return &http.Client{Transport: t}
}

// maxHold is the longest Retry-After.
const maxHold = 24 * time.Hour

// Ask implements [Asker].
func (h *HTTP) Ask(ctx context.Context, q Question) (Answer, error) {
	req, err := h.request(ctx, q)
	if err != nil {
		return Answer{}, err
	}
	client := *http.DefaultClient
	if h.Client != nil {
		client = *h.Client
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(req)
	if err != nil {
		return Answer{}, withoutURL(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, mostOutput))
	switch code := resp.StatusCode; {
	case code >= 200 && code < 300:
		return Answer{Admitted: true}, nil
	case err != nil:
		return Answer{}, fmt.Errorf("status %d, and the body broke off: %w", code, err)
	case code == http.StatusForbidden, code == http.StatusConflict:
		return Answer{Reason: line(string(body))}, nil
	case code == http.StatusTooEarly, code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable:
		return Answer{Hold: retryAfter(resp.Header.Get("Retry-After"), time.Now()), Reason: line(string(body))}, nil
	}
	return Answer{}, fmt.Errorf("status %d is none by which a gate answers", resp.StatusCode)
}

// request makes the request of a question.
func (h *HTTP) request(ctx context.Context, q Question) (*http.Request, error) {
	address, _, err := h.URL.Read(ctx)
	if err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	body, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address.Reveal(), bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("url: it is not valid") // the error would repeat it
	}
	for name, secret := range h.Headers {
		value, _, err := secret.Read(ctx)
		if err != nil {
			return nil, fmt.Errorf("header %s: %w", name, err)
		}
		if name == "Host" {
			req.Host = value.Reveal()
		}
		req.Header[name] = []string{value.Reveal()}
	}
	req.Header.Set("Content-Type", "application/json")
	return req, nil
}

// withoutURL returns an error of net/http without the URL, which may hold a secret.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// retryAfter reads seconds or a date. What cannot be read is a minute.
func retryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return min(max(time.Duration(seconds)*time.Second, time.Second), maxHold)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(now), time.Second), maxHold)
	}
	return retryFailed
}
