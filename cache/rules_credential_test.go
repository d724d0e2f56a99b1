package cache_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// issuer gives an anonymous credential, or what is wrong.
type issuer struct {
	mu   sync.Mutex
	err  error
	hang bool
}

func (i *issuer) set(err error, hang bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.err, i.hang = err, hang
}

func (i *issuer) Credential(ctx context.Context, _ auth.Request) (auth.Credential, error) {
	i.mu.Lock()
	err, hang := i.err, i.hang
	i.mu.Unlock()
	if hang {
		<-ctx.Done()
		return auth.Credential{}, ctx.Err()
	}
	return auth.Credential{}, err
}

// TestRuleWithoutCredential: a rule that has no credential serves what is
// stored, says why it has nothing else, and is no trouble of another rule with
// the same upstream.
func TestRuleWithoutCredential(t *testing.T) {
	for name, row := range map[string]struct {
		err    error
		hang   bool
		status int
		code   string
		says   string
		after  string
	}{
		"denied":      {err: &auth.DeniedError{Reason: "the identity is not assigned"}, status: http.StatusForbidden, code: "DENIED", says: "the identity is not assigned"},
		"unavailable": {err: &auth.UnavailableError{Reason: "the vault is busy", RetryAfter: 9 * time.Second}, status: http.StatusServiceUnavailable, code: "UNKNOWN", says: "the vault is busy", after: "9"},
		"soon":        {err: &auth.UnavailableError{Reason: "the vault is busy"}, status: http.StatusServiceUnavailable, code: "UNKNOWN", says: "the vault is busy", after: "5"},
		"hangs":       {hang: true, status: http.StatusGatewayTimeout, code: "UNKNOWN", says: "took too long"},
	} {
		t.Run(name, func(t *testing.T) {
			who := &issuer{}
			storyInBubble(t, func(s *story) {
				img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
				s.pull("app/api", "v1", img)
				s.pull("other/api", "v1", img)
				s.settle()
				who.set(row.err, row.hang)
				for range 2 {
					r := s.wantManifest("app/api", "v1", img)
					if cs := r.Header.Get("Cache-Status"); !strings.Contains(cs, "fwd=stale") {
						s.Errorf("Cache-Status %q, want fwd=stale", cs)
					}
					r = s.wantManifest("other/api", "v1", img)
					if cs := r.Header.Get("Cache-Status"); !strings.Contains(cs, "fwd-status=200") {
						s.Errorf("another rule: Cache-Status %q, want a check", cs)
					}
				}
				r := s.manifest("app/none", "v1")
				s.wantError(r, row.status, row.code)
				if !strings.Contains(string(r.body), row.says) || r.Header.Get("Retry-After") != row.after {
					s.Errorf("Retry-After %q, %s", r.Header.Get("Retry-After"), r.body)
				}
			}, func(s *story) {
				s.cache.Limits.StaleTimeout, s.cache.Limits.AnswerTimeout = 300*time.Millisecond, time.Second
				if err := s.rules.SetAuth("team", who); err != nil {
					s.Fatal(err)
				}
				if err := s.rules.Create(rule.Rule{Name: "other", Source: s.host() + "/team/*", Target: "other/*"}); err != nil {
					s.Fatal(err)
				}
			})
		})
	}
}
