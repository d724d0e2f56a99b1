package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// pull is one request of the demonstration.
type pull struct {
	who, method, path, token string
	want                     int // status
}

// demonstrate sends requests, prints the responses, and fails if one of them has another
// status than it should.
func demonstrate(ctx context.Context, out io.Writer, base, token string) error {
	for _, p := range []pull{
		{"anonymous, covered by a rule", "GET", "/v2/mirror/app/manifests/v1", "", http.StatusUnauthorized},
		{"anonymous, our own", "GET", "/v2/own/hello/manifests/latest", "", http.StatusUnauthorized},
		{"with a token, covered", "GET", "/v2/mirror/app/manifests/v1", token, http.StatusOK},
		{"with a token, our own", "GET", "/v2/own/hello/manifests/latest", token, http.StatusOK},
		{"with a token, a push", "PUT", "/v2/mirror/app/manifests/v1", token, http.StatusForbidden},
		{"anonymous, the registry itself", "GET", "/v2/", "", http.StatusUnauthorized},
		{"with a token, the registry itself", "GET", "/v2/", token, http.StatusOK},
	} {
		resp, err := p.do(ctx, base)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(out, "%-34s %s %-31s %d  %s\n", p.who, p.method, p.path, resp.StatusCode, comment(resp))
		if resp.StatusCode != p.want {
			return fmt.Errorf("%s: %s %s: status %d, want %d", p.who, p.method, p.path, resp.StatusCode, p.want)
		}
	}
	return nil
}

// do sends the request and reads the response to its end.
func (p pull) do(ctx context.Context, base string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, p.method, base+p.path, nil)
	if err != nil {
		return nil, err
	}
	if p.token != "" {
		req.Header.Set("Authorization", "Bearer "+p.token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp, errors.Join(err, resp.Body.Close())
}

// comment returns which part of the server responded, and how.
func comment(resp *http.Response) string {
	who := "the cache"
	if resp.Header.Get("Server") == "own-registry" {
		who = "our registry"
	}
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		scheme, _, _ := strings.Cut(resp.Header.Get("WWW-Authenticate"), " ")
		return "the gate asks for a token (" + scheme + ")"
	case resp.StatusCode >= 400:
		return "the gate refuses"
	case resp.Header.Get("X-Azure-Origin") == "upstream":
		return who + ", from upstream"
	}
	return who
}
