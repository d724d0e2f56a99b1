package upstream_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// keeper is an authenticator whose credential can change.
type keeper struct {
	mu   sync.Mutex
	cred auth.Credential
	err  error
}

func (k *keeper) Credential(context.Context, auth.Request) (auth.Credential, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.cred, k.err
}

// renewer has another credential once it is told that the first was refused.
type renewer struct {
	keeper
	next  auth.Credential
	asked int
}

func (r *renewer) Invalidate(_ auth.Request, c auth.Credential) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	r.cred = r.next
}

func password(user, text string) auth.Credential {
	return auth.Credential{Username: user, Password: auth.NewSensitive(text), Version: text}
}

func alice() auth.Authenticator { return &keeper{cred: password("alice", "hunter2")} }

var users = map[string]string{"alice": "hunter2"}

func TestTokenDance(t *testing.T) {
	s := newSide(t)
	s.up.AddImage("a", "v1", nil)
	s.up.AddImage("b", "v1", nil)
	s.up.RequireLogin(users, nil)
	s.who = alice()
	for range 3 {
		if _, _, err := s.repo("a").Manifest(t.Context(), "v1"); err != nil {
			t.Fatal(err)
		}
	}
	if m, n := s.up.Count("", "manifest", ""), s.up.Count("", "token", ""); m != 4 || n != 1 {
		t.Errorf("3 questions cost %d requests and %d tokens", m, n)
	}
	if _, _, err := s.repo("b").Manifest(t.Context(), "v1"); err != nil {
		t.Fatal(err)
	}
	s.up.ForgetTokens()
	if _, _, err := s.repo("a").Manifest(t.Context(), "v1"); err != nil {
		t.Errorf("a token that expired: %v", err)
	}
	if n := s.up.Count("", "token", ""); n != 3 {
		t.Errorf("%d tokens, want one for each repository and one more", n)
	}
}

func TestOtherWaysToProveOneself(t *testing.T) {
	s := newSide(t)
	s.up.AddImage("a", "v1", nil)
	s.up.RequireBasic(users)
	s.who = alice()
	for range 2 {
		if _, _, err := s.repo("a").Manifest(t.Context(), "v1"); err != nil {
			t.Errorf("Basic: %v", err)
		}
	}
	if n := s.up.Count("", "manifest", ""); n != 3 {
		t.Errorf("Basic: 2 questions cost %d requests, want 3", n)
	}
	s.who = nil
	_, _, err := s.repo("a").Manifest(t.Context(), "v1")
	if e := s.want(err, upstream.Denied); e.Status != 401 {
		t.Errorf("Basic without a password: %+v", e)
	}

	s.up.RequireLogin(users, nil)
	s.up.SetRefreshTokens(map[string]string{"refresh-hunter2": "alice"})
	s.who = &keeper{cred: auth.Credential{RefreshToken: auth.NewSensitive("refresh-hunter2")}}
	if _, _, err := s.repo("a").Manifest(t.Context(), "v1"); err != nil {
		t.Errorf("a refresh token: %v", err)
	}
	var token string
	for _, q := range s.up.Requests() {
		if b, ok := strings.CutPrefix(q.Header.Get("Authorization"), "Bearer "); ok {
			token = b
		}
	}
	s.up.Reset()
	s.who = &keeper{cred: auth.Credential{AccessToken: auth.NewSensitive(token)}}
	if _, _, err := s.repo("a").Manifest(t.Context(), "v1"); err != nil || s.up.Count("", "", "") != 1 {
		t.Errorf("an access token: %v after %d requests", err, s.up.Count("", "", ""))
	}

	s.up.RequireLogin(map[string]string{"": ""}, nil)
	s.who = nil
	if _, _, err := s.repo("a").Manifest(t.Context(), "v1"); err != nil {
		t.Errorf("an anonymous token: %v", err)
	}
}

func TestTokensBelongToARule(t *testing.T) {
	s := newSide(t)
	s.up.AddImage("a", "v1", nil)
	s.up.RequireLogin(map[string]string{"alice": "hunter2", "bob": "hunter2b"}, func(user, _ string) bool { return user == "alice" })
	if _, _, err := s.as("one", "a", alice()).Manifest(t.Context(), "v1"); err != nil {
		t.Fatal(err)
	}
	for _, who := range []auth.Authenticator{&keeper{cred: password("bob", "hunter2b")}, nil, &keeper{cred: password("alice", "wrong")}} {
		_, _, err := s.as("two", "a", who).Manifest(t.Context(), "v1")
		s.want(err, upstream.Denied)
	}
	// The same rule with another credential must not live on the old tokens.
	_, _, err := s.as("one", "a", &keeper{cred: password("alice", "wrong")}).Manifest(t.Context(), "v1")
	s.want(err, upstream.Denied)
}

func TestARefusedCredentialIsReadOnceMore(t *testing.T) {
	s := newSide(t)
	s.up.AddImage("a", "v1", nil)
	s.up.RequireLogin(users, nil)
	r := &renewer{keeper: keeper{cred: password("alice", "old")}, next: password("alice", "hunter2")}
	s.who = r
	if _, _, err := s.repo("a").Manifest(t.Context(), "v1"); err != nil || r.asked != 1 {
		t.Errorf("%v after %d invalidations", err, r.asked)
	}
	s.up.Reset()
	r = &renewer{keeper: keeper{cred: password("alice", "old")}, next: password("alice", "old")}
	_, _, err := s.as("rule", "a", r).Manifest(t.Context(), "v1")
	if e := s.want(err, upstream.Denied); e.Status != 401 || r.asked != 1 || s.up.Count("", "", "") > 6 {
		t.Errorf("%+v after %d requests and %d invalidations", e, s.up.Count("", "", ""), r.asked)
	}
}

func TestA401LoopEnds(t *testing.T) {
	for _, challenge := range []string{`Bearer realm="http://%s/token",service="x"`, `Basic realm="x"`, `Negotiate`, ``, `Bearer`} {
		s := newSide(t)
		s.up.AddImage("a", "v1", nil)
		s.up.RequireLogin(users, nil)
		text := challenge
		if strings.Contains(text, "%s") {
			text = fmt.Sprintf(text, s.up.Host())
		}
		s.up.Fail(upstreamtest.Fault{Kind: "manifest", Status: 401, Do: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Www-Authenticate", text)
			w.WriteHeader(401)
		}})
		r := &renewer{keeper: keeper{cred: password("alice", "hunter2")}, next: password("alice", "hunter2")}
		s.who = r
		_, _, err := s.repo("a").Manifest(t.Context(), "v1")
		if e := s.want(err, upstream.Denied); e.Status != 401 || r.asked != 1 || s.up.Count("", "", "") > 6 {
			t.Errorf("%q: %+v after %d requests", text, e, s.up.Count("", "", ""))
		}
	}
}

func TestTokenServersThatRefuse(t *testing.T) {
	for status, class := range map[int]upstream.Class{
		400: upstream.Denied, 401: upstream.Denied, 403: upstream.Denied, 404: upstream.Denied,
		429: upstream.Limited, 500: upstream.Unreachable, 503: upstream.Unreachable, 307: upstream.Protocol,
	} {
		s := newSide(t)
		s.up.AddImage("a", "v1", nil)
		s.up.RequireLogin(users, nil)
		s.who = alice()
		s.up.Fail(upstreamtest.Fault{Kind: "token", Status: status, RetryAfter: "9"})
		_, _, err := s.repo("a").Manifest(t.Context(), "v1")
		if e := s.want(err, class); e.Status != status || e.RetryAfter != 9*time.Second {
			t.Errorf("%d: %+v", status, e)
		}
	}
	for name, body := range map[string]string{"empty": `{}`, "no JSON": `x`, "too large": `{"token":"` + strings.Repeat("x", 1<<20) + `"}`} {
		s := newSide(t)
		s.up.AddImage("a", "v1", nil)
		s.up.RequireLogin(users, nil)
		s.who = alice()
		s.up.Fail(upstreamtest.Fault{Kind: "token", Do: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }})
		_, _, err := s.repo("a").Manifest(t.Context(), "v1")
		if s.want(err, upstream.Protocol); strings.Contains(err.Error(), "xxx") {
			t.Errorf("%s: the body stands in the error", name)
		}
	}
}

func TestARedirectingTokenServerLearnsNothingMore(t *testing.T) {
	s := newSide(t)
	thief := upstreamtest.NewRegistry(t)
	s.up.AddImage("a", "v1", nil)
	s.up.RequireLogin(users, nil)
	s.who = alice()
	s.up.Fail(upstreamtest.Fault{Kind: "token", Redirect: thief.URL() + "/token"})
	_, _, err := s.repo("a").Manifest(t.Context(), "v1")
	s.want(err, upstream.Protocol)
	if n := len(thief.Requests()); n != 0 {
		t.Errorf("the redirect was followed with %d requests", n)
	}
}

func TestACredentialGoesToAllowedRealmsOnly(t *testing.T) {
	s := newSide(t)
	issuer := upstreamtest.NewRegistry(t)
	s.up.AddImage("a", "v1", nil)
	s.up.RequireLoginAt(issuer, users, nil)
	for _, who := range []auth.Authenticator{alice(), nil, &keeper{cred: auth.Credential{RefreshToken: auth.NewSensitive("hunter2")}}} {
		r := s.as("rule", "a", who) // this client was made before the realm was listed
		_, _, err := r.Manifest(t.Context(), "v1")
		s.want(err, upstream.Protocol)
		if n := len(issuer.Requests()); n != 0 {
			t.Fatalf("%d requests reached a realm that is not listed", n)
		}
	}
	for _, q := range s.up.Requests() {
		if q.Header.Get("Authorization") != "" {
			t.Error("a credential was shown though the realm is refused")
		}
	}
	s.client = s.up.Client()
	if _, _, err := s.as("rule", "a", alice()).Manifest(t.Context(), "v1"); err != nil {
		t.Errorf("a listed realm: %v", err)
	}
}

func TestTrickyChallengesTellNoSecret(t *testing.T) {
	s := newSide(t)
	thief := upstreamtest.NewRegistry(t)
	for _, challenge := range []string{
		`Bearer realm="%[2]s/token",realm="%[1]s/token"`,
		`Bearer realm=%[2]s/token`,
		`Basic realm="x", Bearer realm="%[2]s/token"`,
		`Bearer realm="http://%[1]s@%[3]s/token"`,
		`Bearer realm="\%[2]s/token"`,
		`bearer REALM = "%[2]s/token"`,
		`Bearer service="%[1]s",realm="%[2]s/token"`,
		`Bearer x="\"",realm="%[2]s/token"`,
		`Bearer realm="//%[3]s/token"`,
	} {
		s.up.Heal()
		s.up.Fail(upstreamtest.Fault{Challenge: fmt.Sprintf(challenge, s.up.URL(), thief.URL(), thief.Host())})
		_, _, err := s.as("rule", "a", alice()).Manifest(t.Context(), "v1")
		if err == nil {
			t.Errorf("%s: no error", challenge)
		}
		if q := thief.Requests(); len(q) != 0 {
			t.Errorf("%s: the thief got %s %s", challenge, q[0].Method, q[0].Path)
		}
	}
}

func TestWhatAuthenticatorsSayIsPassedOn(t *testing.T) {
	s := newSide(t)
	denied := &auth.DeniedError{Reason: "not assigned"}
	_, _, err := s.as("rule", "a", &keeper{err: denied}).Manifest(t.Context(), "v1")
	s.want(err, upstream.Denied)
	if got, ok := errors.AsType[*auth.DeniedError](err); !ok || got != denied {
		t.Errorf("%v", err)
	}
	_, _, err = s.as("rule", "a", &auth.CredentialSet{LoginServer: "other.example"}).Manifest(t.Context(), "v1")
	if s.want(err, upstream.Denied); !errors.Is(err, auth.ErrHost) {
		t.Errorf("%v", err)
	}
	_, _, err = s.as("rule", "a", &keeper{err: errors.New("vault is shut")}).Manifest(t.Context(), "v1")
	s.want(err, upstream.Denied)
	_, _, err = s.as("rule", "a", &keeper{err: context.DeadlineExceeded}).Manifest(t.Context(), "v1")
	if e := s.want(err, upstream.Unreachable); !e.Timeout {
		t.Errorf("%+v", e)
	}
	if n := len(s.up.Requests()); n != 0 {
		t.Errorf("%d requests without a credential", n)
	}
}

func TestWhoeverAsksFirstMayLeave(t *testing.T) {
	s := newSide(t)
	s.up.AddImage("a", "v1", nil)
	s.up.RequireLogin(users, nil)
	s.who = alice()
	reached, proceed := make(chan bool, 9), make(chan bool)
	s.up.Fail(upstreamtest.Fault{Kind: "token", Times: 1, Do: func(w http.ResponseWriter, req *http.Request) {
		reached <- true
		<-proceed
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(429)
	}})
	ctx, leave := context.WithCancel(t.Context())
	first, second := make(chan error), make(chan error)
	go func() { _, err := s.repo("a").Resolve(ctx, "v1"); first <- err }()
	<-reached
	go func() { _, err := s.repo("a").Resolve(t.Context(), "v1"); second <- err }()
	leave()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("who left got %v", err)
	}
	close(proceed)
	if err := <-second; errors.Is(err, context.Canceled) {
		t.Errorf("who stayed got %v", err)
	}
}
