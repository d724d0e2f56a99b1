// Package remote is the client of a running proxy: package admin's API over HTTP, and the
// subcommands of the proxy that use it.
package remote

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pullthrough/pullthrough/examples/proxy/admin"
)

// Bounds of what a proxy may answer.
const (
	maxAnswer = 64 << 20
	maxLine   = 1 << 20
)

// Target is an admin address, and how to prove there that one may act.
type Target struct {
	// Address is HOST:PORT, or a URL such as https://HOST:PORT.
	Address string
	// Token is shown as a bearer token. If empty, none is.
	Token string
	// TLS holds the authorities and the client certificate for https. If nil, the system's
	// authorities count.
	TLS *tls.Config
}

// Client talks to one admin address. Make one with [NewClient]. It is safe for concurrent use.
type Client struct {
	base  *url.URL
	token string
	http  *http.Client
}

// ErrUnreachable reports that there was no answer.
var ErrUnreachable = errors.New("the proxy cannot be reached")

// ErrCut reports a stream that ended without its last line.
var ErrCut = errors.New("the answer of the proxy was cut off")

// NewClient returns a client. It follows no redirects and uses no HTTP proxy, so that the token
// goes to the target alone.
func NewClient(t Target) (*Client, error) {
	address := t.Address
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	base, err := url.Parse(address)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" || base.User != nil || strings.Trim(base.Path, "/") != "" || base.RawQuery != "" {
		return nil, fmt.Errorf("%q is no admin address: HOST:PORT, http://HOST:PORT or https://HOST:PORT is expected", t.Address)
	}
	base.Path = ""
	return &Client{base: base, token: t.Token, http: &http.Client{
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSClientConfig:     t.TLS,
			TLSHandshakeTimeout: 10 * time.Second,
			ForceAttemptHTTP2:   true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close closes kept connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Get asks for something, and returns its JSON.
func (c *Client) Get(ctx context.Context, path string, query url.Values) ([]byte, error) {
	return c.answer(c.send(ctx, http.MethodGet, path, query, nil))
}

// Post acts, and returns the JSON of the answer.
func (c *Client) Post(ctx context.Context, path string, body any) ([]byte, error) {
	return c.answer(c.send(ctx, http.MethodPost, path, nil, body))
}

// Stream acts, and calls each with every line of the answer but the last, which it returns. A
// last line that is an error is returned as that error.
func (c *Client) Stream(ctx context.Context, path string, body any, each func(data []byte, line admin.Line) error) (data []byte, last admin.Line, err error) {
	resp, err := c.send(ctx, http.MethodPost, path, nil, body)
	if err != nil {
		return nil, last, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		_, err := c.answer(resp, nil)
		return nil, last, err
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var line admin.Line
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return nil, last, fmt.Errorf("the proxy answered with a line that is not JSON: %w", err)
		}
		switch line.Kind {
		case admin.LineError:
			if line.Error == nil {
				return nil, line, ErrCut
			}
			return bytes.Clone(lines.Bytes()), line, line.Error
		case admin.LineDone:
			return bytes.Clone(lines.Bytes()), line, nil
		}
		if err := each(lines.Bytes(), line); err != nil {
			return nil, last, err
		}
	}
	if ctx.Err() != nil {
		return nil, last, context.Cause(ctx)
	}
	return nil, last, errors.Join(ErrCut, lines.Err())
}

// send sends a request.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, body any) (*http.Response, error) {
	var reader io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		reader = bytes.NewReader(data)
	}
	target := *c.base
	target.Path, target.RawQuery = admin.Prefix+path, query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, target.String(), reader)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return resp, nil
}

// answer reads a response. What is no success is an [*admin.Error] with its status.
func (c *Client) answer(resp *http.Response, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, errors.Join(ErrCut, err)
	}
	if resp.StatusCode == http.StatusOK && json.Valid(data) {
		return data, nil
	}
	var body struct{ Error *admin.Error }
	if json.Unmarshal(data, &body) == nil && body.Error != nil {
		body.Error.Status = resp.StatusCode
		return nil, body.Error
	}
	return nil, fmt.Errorf("%s is no admin address of a proxy: it answered with status %s and without JSON", c.base, resp.Status)
}

// pool reads certificates in PEM form.
func pool(data []byte) (*x509.CertPool, bool) {
	p := x509.NewCertPool()
	ok := p.AppendCertsFromPEM(data)
	return p, ok
}
