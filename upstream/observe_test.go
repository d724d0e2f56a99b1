package upstream_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// observer notes how its credential was taken.
type observer struct {
	keeper
	accepted int
	refused  []auth.Refusal
	says     error
}

func (o *observer) Accepted(auth.Request, auth.Credential) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.accepted++
}

func (o *observer) Refused(_ auth.Request, _ auth.Credential, f auth.Refusal) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.refused = append(o.refused, f)
	return o.says
}

func TestAcceptedOnce(t *testing.T) {
	s := newSide(t)
	s.up.AddImage("a", "v1", nil)
	s.up.RequireLogin(users, nil)
	o := &observer{keeper: keeper{cred: password("alice", "hunter2")}}
	for range 3 {
		if _, _, err := s.as("rule", "a", o).Manifest(t.Context(), "v1"); err != nil {
			t.Fatal(err)
		}
	}
	if o.accepted != 1 || len(o.refused) != 0 {
		t.Errorf("accepted %d times, refused %v", o.accepted, o.refused)
	}
	s.up.RequireLogin(map[string]string{"alice": "another"}, nil)
	s.up.ForgetTokens()
	_, _, err := s.as("rule", "a", o).Manifest(t.Context(), "v1")
	if s.want(err, upstream.Denied); len(o.refused) != 1 {
		t.Errorf("refused %v", o.refused)
	}
	s.up.RequireLogin(users, nil)
	if _, _, err := s.as("rule", "a", o).Manifest(t.Context(), "v1"); err != nil || o.accepted != 2 {
		t.Errorf("%v; accepted %d times, want once more after a refusal", err, o.accepted)
	}
}

func TestRefusalsAreToldApart(t *testing.T) {
	const envelope = `{"errors":[{"code":"DENIED","message":"client with IP '192.0.2.1' is not allowed access"}]}`
	answer := func(status int, challenge string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			if challenge != "" {
				w.Header().Set("Www-Authenticate", challenge)
			}
			w.WriteHeader(status)
			_, _ = w.Write([]byte(envelope))
		}
	}
	for name, c := range map[string]struct {
		prepare func(*upstreamtest.Registry)
		want    auth.Refusal
	}{
		"token server": {func(up *upstreamtest.Registry) { up.RequireLogin(map[string]string{"alice": "x"}, nil) },
			auth.Refusal{Status: 401, Unauthenticated: true}},
		"token server forbids": {func(up *upstreamtest.Registry) {
			up.RequireLogin(users, nil)
			up.Fail(upstreamtest.Fault{Kind: "token", Do: answer(403, "")})
		}, auth.Refusal{Status: 403}},
		"Basic": {func(up *upstreamtest.Registry) { up.RequireBasic(map[string]string{"alice": "x"}) },
			auth.Refusal{Status: 401, Unauthenticated: true}},
		"right": {func(up *upstreamtest.Registry) { up.RequireLogin(users, func(string, string) bool { return false }) },
			auth.Refusal{Status: 403}},
		"network": {func(up *upstreamtest.Registry) {
			up.Fail(upstreamtest.Fault{Kind: "manifest", Do: answer(403, "")})
		}, auth.Refusal{Status: 403}},
	} {
		s := newSide(t)
		s.up.AddImage("a", "v1", nil)
		c.prepare(s.up)
		says := &auth.DeniedError{Reason: "because"}
		o := &observer{keeper: keeper{cred: password("alice", "hunter2")}, says: says}
		_, _, err := s.as("rule", "a", o).Manifest(t.Context(), "v1")
		e := s.want(err, upstream.Denied)
		if !errors.Is(err, says) || e.Status != c.want.Status || e.Op == "" {
			t.Errorf("%s: %+v", name, e)
		}
		if len(o.refused) != 1 {
			t.Errorf("%s: told %d times", name, len(o.refused))
			continue
		}
		got := o.refused[0]
		if got.Status != c.want.Status || got.Unauthenticated != c.want.Unauthenticated || got.Code == "" || got.Message == "" {
			t.Errorf("%s: %+v", name, got)
		}
		if strings.Contains(err.Error(), got.Message) {
			t.Errorf("%s: the upstream's words are passed on: %v", name, err)
		}
	}
}

// What says nothing about the credential is not told.
func TestOtherFailuresAreNoRefusals(t *testing.T) {
	for _, status := range []int{404, 429, 500, 451} {
		s := newSide(t)
		s.up.Fail(upstreamtest.Fault{Kind: "manifest", Status: status})
		o := &observer{keeper: keeper{cred: password("alice", "hunter2")}}
		if _, _, err := s.as("rule", "a", o).Manifest(t.Context(), "v1"); err == nil || len(o.refused)+o.accepted != 0 {
			t.Errorf("%d: %v, told %v", status, err, o.refused)
		}
	}
}

func TestUnavailableCredential(t *testing.T) {
	s := newSide(t)
	_, _, err := s.as("rule", "a", &keeper{err: &auth.UnavailableError{Reason: "busy", RetryAfter: 7 * time.Second}}).Manifest(t.Context(), "v1")
	e := s.want(err, upstream.Unreachable)
	if _, ok := errors.AsType[*auth.UnavailableError](err); !ok || e.RetryAfter != 7*time.Second || e.Status != 0 || len(s.up.Requests()) != 0 {
		t.Errorf("%+v", e)
	}
}
