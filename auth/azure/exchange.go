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

// registryAudience is the audience of registries, in every cloud, and
// registryScope how it is asked for.
const (
	registryAudience = "https://containerregistry.azure.net"
	registryScope    = registryAudience + "/.default"
)

// maxExchange is the largest answer of a registry's exchange, in bytes.
const maxExchange = 64 << 10

// refusedError says that a registry does not take an Entra token.
type refusedError struct {
	status        int
	message       auth.Sensitive // the registry's own, which may repeat what it was sent: only for acr.Explain
	correlationID string
}

func (e *refusedError) Error() string {
	text := fmt.Sprintf("the exchange answered with status %d", e.status)
	if e.correlationID != "" {
		text += " (correlation id " + e.correlationID + ")"
	}
	return text
}

// exchange gives an Entra token to the registry host and returns its refresh
// token (POST /oauth2/exchange). The host must have been checked. The errors
// hold nothing of what was sent or received but a status.
func (s *settings) exchange(ctx context.Context, host, entra string) (string, error) {
	form := url.Values{"grant_type": {"access_token"}, "service": {host}, "access_token": {entra}}
	if s.tenant != "" {
		form.Set("tenant", s.tenant)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+host+"/oauth2/exchange", strings.NewReader(form.Encode()))
	if err != nil {
		return "", errors.New("azure: the exchange cannot be asked")
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
		return refreshToken(host, data)
	}
	return "", exchangeFailure(host, resp, data)
}

// refreshToken reads the answer of an exchange.
func refreshToken(host string, data []byte) (string, error) {
	var answer struct {
		RefreshToken string `json:"refresh_token"`
	}
	if len(data) > maxExchange || json.Unmarshal(data, &answer) != nil || answer.RefreshToken == "" {
		return "", &auth.UnavailableError{Reason: fmt.Sprintf("registry '%s' answered the exchange of a token with something that cannot be used", host)}
	}
	return answer.RefreshToken, nil
}

// exchangeFailure tells a refusal, which may be cured by another Entra token,
// from trouble that passes.
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

// explain is what a refused exchange means for who.
func (e *refusedError) explain(host, repository, who string) error {
	reason := fmt.Sprintf("registry '%s' does not take the token of %s: check that its tenant is the registry's, and that it has a role there", host, who)
	if e.status == http.StatusForbidden {
		reason = acr.Explain(host, repository, who, e.status, e.message.Reveal())
	}
	return &auth.DeniedError{Reason: reason, Err: e}
}

// plainID lets a correlation id into a log, and nothing else.
func plainID(s string) string {
	if len(s) > 64 || strings.Trim(s, "0123456789abcdefABCDEF-") != "" {
		return ""
	}
	return s
}

// maxRetryAfter bounds how long Azure can send us away.
const maxRetryAfter = 24 * time.Hour

// retryAfter returns how long an answer of Azure asks to wait; 0 if it does not say.
func retryAfter(h http.Header) time.Duration {
	return retryafter.Parse(h, time.Now(), maxRetryAfter)
}

// unreachable is the error of a question without an answer. The cause's text
// may hold an address with a token in it, so only its kind is kept.
func unreachable(ctx context.Context, reason string, err error) error {
	later := &auth.UnavailableError{Reason: reason}
	switch {
	case ctx.Err() != nil:
		later.Err = ctx.Err()
	case errors.Is(err, errTooLarge):
		later.Err = errTooLarge
	default:
		if t, ok := errors.AsType[interface {
			error
			Timeout() bool
		}](err); ok && t.Timeout() {
			later.Err = context.DeadlineExceeded
		}
	}
	return later
}
