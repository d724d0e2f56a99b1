package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/auth/azuretest"
	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/webhook"
)

// cost counts the requests to Azure and to the development registry.
type cost struct {
	imds, exchanges, tokens int   // to authenticate
	unauthorized            int   // with the response 401: without a token, or without a role
	heads, manifests, blobs int   // with content as response
	bytes                   int64 // of blobs
}

// costOf counts calls by kind. A call that the story does not expect is an error.
func costOf(calls []azuretest.Call) (c cost, err error) {
	for _, call := range calls {
		manifest := strings.Contains(call.URL.Path, "/manifests/")
		switch {
		case call.Status > http.StatusUnauthorized:
			err = errors.Join(err, fmt.Errorf("%s %s%s was answered with %d, which is not in the story", call.Method, call.Host, call.URL.Path, call.Status))
		case call.Endpoint == azuretest.IMDS:
			c.imds++
		case call.Endpoint == azuretest.Exchange:
			c.exchanges++
		case call.Endpoint == azuretest.Token:
			c.tokens++
		case call.Endpoint == azuretest.V2 && call.Status == http.StatusUnauthorized:
			c.unauthorized++
		case call.Endpoint == azuretest.V2 && call.Status == http.StatusTemporaryRedirect: // to a blob
		case call.Endpoint == azuretest.V2 && manifest && call.Method == http.MethodHead:
			c.heads++
		case call.Endpoint == azuretest.V2 && manifest:
			c.manifests++
		case call.Endpoint == azuretest.Data:
			c.blobs++
		default:
			err = errors.Join(err, fmt.Errorf("%s %s%s is not in the story", call.Method, call.Host, call.URL.Path))
		}
	}
	return c, err
}

// String returns all counts.
func (c cost) String() string {
	if c == (cost{}) {
		return "nothing: no request was sent"
	}
	return fmt.Sprintf("IMDS %d, exchange %d, token %d, 401 x %d; HEAD %d, manifests %d, blobs %d, %s",
		c.imds, c.exchanges, c.tokens, c.unauthorized, c.heads, c.manifests, c.blobs, size(c.bytes))
}

// spent prints the cost of a step, compares it with the expected one, and resets the
// counters.
func (s *story) spent(ctx context.Context, want cost) error {
	if err := s.settle(ctx); err != nil {
		return err
	}
	calls := s.azure.Calls()
	got, err := costOf(calls)
	got.bytes = s.dev.Content.BlobBytes("")
	s.azure.Reset()
	s.dev.Content.Reset()
	s.line("cost", "%v", got)
	for _, call := range calls {
		for _, secret := range s.former {
			err = errors.Join(err, check(!strings.Contains(call.Text(), secret.Text), "%s was shown a former %s", call.Host, secret.What))
		}
	}
	return errors.Join(err, check(got == want, "the cost is %v; the story says %v", got, want))
}

// settle waits until no request, download or copy is under way, so that the figures are
// final. A copy that waits until a client pulls a platform is not under way.
func (s *story) settle(ctx context.Context) error {
	busy := func(c cache.CopyState) bool { return c.State == "queued" || c.State == "running" }
	open := func(c azuretest.Call) bool { return c.Status == 0 }
	for s.prod.Stats().Downloads > 0 || slices.ContainsFunc(s.prod.Copies(), busy) || slices.ContainsFunc(s.azure.Calls(), open) {
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("something is still under way: %w", ctx.Err())
		}
	}
	return nil
}

// pushes waits for the expected push events and prints them. They may come in any order,
// and there must be no others.
func (s *story) pushes(ctx context.Context, want ...webhook.Target) error {
	missing := slices.Clone(want)
	for len(missing) > 0 {
		select {
		case ev := <-s.events:
			s.event(ev)
			i := slices.Index(missing, ev.Target)
			if i < 0 || ev.Action != webhook.ActionPush {
				return fmt.Errorf("the event %+v is not in the story", ev)
			}
			missing = slices.Delete(missing, i, i+1)
		case <-ctx.Done():
			return fmt.Errorf("the events %+v are missing: %w", missing, ctx.Err())
		}
	}
	err := s.settle(ctx)
	return errors.Join(err, check(len(s.events) == 0, "there are more events than the story says"))
}

// target returns the target of the event for a manifest that was copied.
func target(tag string, d ocispec.Descriptor) webhook.Target {
	return webhook.Target{MediaType: d.MediaType, Size: d.Size, Length: d.Size, Digest: d.Digest.String(), Repository: local, Tag: tag}
}

// check returns an error unless ok.
func check(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}
