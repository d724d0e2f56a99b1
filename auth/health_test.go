package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// kept is a secret that caches its value until it is invalidated.
type kept struct {
	spy
	invalidated int
}

func (k *kept) Invalidate() { k.invalidated++ }

func newSet() (*CredentialSet, *kept, *kept) {
	user, pass := &kept{spy: spy{text: "alice"}}, &kept{spy: spy{text: text}}
	return &CredentialSet{Name: "hub", LoginServer: "dev.azurecr.io", Username: user, Password: pass}, user, pass
}

var forDev = Request{Rule: "r", Host: "dev.azurecr.io", Repository: "team-a/api"}

func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set, _, pass := newSet()
		if set.Health() != (Health{}) {
			t.Errorf("before the first use: %+v", set.Health())
		}
		want := func(status HealthStatus, code HealthCode, since time.Time) {
			t.Helper()
			h := set.Health()
			if h.Status != status || h.Code != code || !h.Since.Equal(since) || (h.Message == "") != (status == Healthy) || leaks(h.Message) {
				t.Errorf("%+v, want %s %s since %s", h, status, code, since)
			}
		}
		begin := time.Now()
		c, err := set.Credential(t.Context(), forDev)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		_, _ = set.Credential(t.Context(), forDev)
		want(Healthy, "", begin)

		refused := time.Now()
		for range 2 {
			_ = set.Refused(forDev, c, Refusal{Status: 401, Unauthenticated: true})
			time.Sleep(time.Minute)
		}
		want(Unhealthy, CodeRefused, refused)
		if _, err := set.Credential(t.Context(), forDev); err != nil {
			t.Fatal(err)
		}
		want(Unhealthy, CodeRefused, refused) // reading an equal pair again proves nothing
		accepted := time.Now()
		set.Accepted(forDev, c)
		want(Healthy, "", accepted)

		_ = set.Refused(forDev, c, Refusal{Status: 401, Unauthenticated: true})
		time.Sleep(time.Minute)
		pass.text, accepted = "rotated", time.Now()
		if _, err := set.Credential(t.Context(), forDev); err != nil {
			t.Fatal(err)
		}
		want(Healthy, "", accepted) // this pair was not refused
		set.Refused(forDev, c, Refusal{Status: 401, Unauthenticated: true})
		want(Healthy, "", accepted) // a late refusal of the old pair

		set.Refused(forDev, Credential{Version: set.current}, Refusal{Status: 403})
		set.Refused(forDev, Credential{Version: set.current}, Refusal{Status: 401})
		want(Healthy, "", accepted) // the pair only lacks a right

		pass.err = errors.New("vault is closed")
		time.Sleep(time.Minute)
		broken := time.Now()
		_, _ = set.Credential(t.Context(), forDev)
		want(Unhealthy, CodePassword, broken)
		pass.err = nil
		_, _ = set.Credential(t.Context(), forDev)
		want(Healthy, "", broken)
	})
}

// TestHealthIsNotThatOfRequests: a caller that gives up while a secret is read says
// nothing about the secret.
func TestHealthIsNotThatOfRequests(t *testing.T) {
	set, user, _ := newSet()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	user.err = ctx.Err()
	if _, err := set.Credential(ctx, forDev); !errors.Is(err, context.Canceled) || set.Health() != (Health{}) {
		t.Errorf("%v, %+v", err, set.Health())
	}
}

func TestHealthJSON(t *testing.T) {
	data, err := json.Marshal(Health{Status: Unhealthy, Code: CodeRefused, Message: "m", Since: time.Unix(0, 0).UTC()})
	if want := `{"status":"Unhealthy","errorCode":"CredentialRefused","errorMessage":"m","since":"1970-01-01T00:00:00Z"}`; err != nil || string(data) != want {
		t.Errorf("%s, %v", data, err)
	}
	if data, _ := json.Marshal(Health{}); string(data) != "{}" {
		t.Errorf("%s", data)
	}
}

func TestSecretErrorsKeepTheirKind(t *testing.T) {
	set, _, pass := newSet()
	pass.err = fmt.Errorf("vault: %w", &UnavailableError{Reason: "busy at https://vault.example", RetryAfter: time.Second})
	_, err := set.Credential(t.Context(), forDev)
	later, ok := errors.AsType[*UnavailableError](err)
	if !ok || later.RetryAfter != time.Second || strings.Contains(later.Reason, "vault.example") || !strings.Contains(err.Error(), "vault.example") {
		t.Errorf("%v", err)
	}
	pass.err = errors.New("no such file")
	_, err = set.Credential(t.Context(), forDev)
	if denied, ok := errors.AsType[*DeniedError](err); !ok || strings.Contains(denied.Reason, "file") || !strings.Contains(err.Error(), "file") {
		t.Errorf("%v", err)
	}
}

// TestInvalidate: both secrets are read again, since either may have been rotated.
func TestInvalidate(t *testing.T) {
	set, user, pass := newSet()
	c, err := set.Credential(t.Context(), forDev)
	if err != nil {
		t.Fatal(err)
	}
	set.Invalidate(forDev, Credential{Version: "another"})
	if user.invalidated+pass.invalidated != 0 {
		t.Error("a refusal of an old pair threw the new one away")
	}
	set.Invalidate(forDev, c)
	if user.invalidated != 1 || pass.invalidated != 1 {
		t.Errorf("invalidated %d and %d times", user.invalidated, pass.invalidated)
	}
}

func TestRefusedSaysWhy(t *testing.T) {
	set, _, _ := newSet()
	for name, c := range map[string]struct {
		refusal Refusal
		want    string
	}{
		"password": {Refusal{Status: 401, Unauthenticated: true, Message: text}, "does not accept the user name and password"},
		"role":     {Refusal{Status: 401, Message: text}, "AcrPull"},
		"network":  {Refusal{Status: 403, Message: "client with IP '192.0.2.1' is not allowed access. " + text}, "192.0.2.1"},
	} {
		err := set.Refused(forDev, Credential{}, c.refusal)
		if d, ok := errors.AsType[*DeniedError](err); !ok || !strings.Contains(d.Reason, c.want) || leaks(err.Error()) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := set.Refused(Request{Host: "docker.io"}, Credential{}, Refusal{Status: 401}); err != nil {
		t.Errorf("of another registry: %v", err)
	}
}

func TestUnavailableError(t *testing.T) {
	cause := errors.New("cause")
	if e := (&UnavailableError{Reason: "busy"}); e.Error() != "auth: busy" || e.Unwrap() != nil {
		t.Errorf("%v", e)
	}
	if e := (&UnavailableError{Reason: "busy", Err: cause}); e.Error() != "auth: busy: cause" || !errors.Is(e, cause) {
		t.Errorf("%v", e)
	}
}
