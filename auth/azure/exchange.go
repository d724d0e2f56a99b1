package azure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/internal/acr"
	"github.com/pullthrough/pullthrough/internal/retryafter"
)

// registryAudience is the audience of registries in every cloud, and registryScope the
// scope with which a token for it is requested.
const (
	registryAudience = "https://containerregistry.azure.net"
	registryScope    = registryAudience + "/.default"
)

// maxExchange is the size of the largest response of an exchange, in bytes.
const maxExchange = 64 << 10

// refusedError reports that a registry refused an Entra token.
type refusedError struct {
	status        int
	message       auth.Sensitive // the registry's own; it may repeat what was sent, so it is only for acr.Explain
	correlationID string
}

func (e *refusedError) Error() string {
	text := fmt.Sprintf("the exchange answered with status %d", e.status)
	if e.correlationID != "" {
		text += " (correlation id " + e.correlationID + ")"
	}
	return text
}

// exchange sends an Entra token to the registry host and returns the refresh token for
// it (POST /oauth2/exchange). The caller must have checked the host. Errors hold nothing
// of what was sent, and of the response only the status and a correlation id.
func (s *settings) exchange(ctx context.Context, host, entra string) (string, error) {
	form := url.Values{"grant_type": {"access_token"}, "service": {host}, "access_token": {entra}}
	if s.tenant != "" {
		form.Set("tenant", s.tenant)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+host+"/oauth2/exchange", strings.NewReader(form.Encode()))
	if err != nil {
		return "", errors.New("azure: the request for the exchange cannot be made")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "pullthrough")
	resp, err := s.client.Do(req)
	if err != nil {
		return "", unreachable(ctx, fmt.Sprintf("registry '%s' cannot be reached to exchange a token", host), err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxExchange+1))
	switch {
	case err != nil:
		return "", unreachable(ctx, fmt.Sprintf("registry '%s' broke off the exchange of a token", host), err)
	case resp.StatusCode == http.StatusOK:
		return parseRefreshToken(host, data)
	}
	return "", exchangeFailure(host, resp, data)
}

// parseRefreshToken parses the response of an exchange.
func parseRefreshToken(host string, data []byte) (string, error) {
	var parsed struct {
		RefreshToken string `json:"refresh_token"`
	}
	if len(data) > maxExchange || json.Unmarshal(data, &parsed) != nil || parsed.RefreshToken == "" {
		return "", &auth.UnavailableError{Reason: fmt.Sprintf("registry '%s' answered the exchange of a token without a refresh token that can be used", host)}
	}
	return parsed.RefreshToken, nil
}

// exchangeFailure returns a refusedError for a refusal, which another Entra token may
// cure, and an UnavailableError for a temporary failure.
func exchangeFailure(host string, resp *http.Response, data []byte) error {
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden:
		var envelope struct {
			Errors []struct {
				Message string `json:"message"`
			} `json:"errors"`
		}
		refused := &refusedError{status: resp.StatusCode, correlationID: plainID(resp.Header.Get("X-Ms-Correlation-Request-Id"))}
		if json.Unmarshal(data[:min(len(data), maxExchange)], &envelope) == nil && len(envelope.Errors) > 0 {
			refused.message = auth.NewSensitive(envelope.Errors[0].Message)
		}
		return refused
	}
	return &auth.UnavailableError{
		Reason:     fmt.Sprintf("registry '%s' answered the exchange of a token with status %d", host, resp.StatusCode),
		RetryAfter: retryAfter(resp.Header),
	}
}

// explain returns the error for the refused exchange of a token of who.
func (e *refusedError) explain(host, repository, who string) error {
	reason := fmt.Sprintf("registry '%s' does not accept the token of %s: check that its tenant is the registry's, and that it has a role there", host, who)
	if e.status == http.StatusForbidden {
		reason = acr.Explain(host, repository, who, e.status, e.message.Reveal())
	}
	return &auth.DeniedError{Reason: reason, Err: e}
}

// plainID returns s if it is a correlation id, and otherwise an empty string.
func plainID(s string) string {
	if len(s) > 64 || strings.Trim(s, "0123456789abcdefABCDEF-") != "" {
		return ""
	}
	return s
}

// maxRetryAfter bounds how long Azure can make this package wait.
const maxRetryAfter = 24 * time.Hour

// retryAfter returns how long a response of Azure asks to wait, or 0.
func retryAfter(h http.Header) time.Duration {
	return retryafter.Parse(h, time.Now(), maxRetryAfter)
}

// unreachable returns the error of a request without a usable response. The text of err
// may hold a URL with a token in it, so only the kind of error is kept.
func unreachable(ctx context.Context, reason string, err error) error {
	unavailable := &auth.UnavailableError{Reason: reason}
	switch {
	case ctx.Err() != nil:
		unavailable.Err = ctx.Err()
	case errors.Is(err, errTooLarge):
		unavailable.Err = errTooLarge
	default:
		if t, ok := errors.AsType[interface {
			error
			Timeout() bool
		}](err); ok && t.Timeout() {
			unavailable.Err = context.DeadlineExceeded
		}
	}
	return unavailable
}
