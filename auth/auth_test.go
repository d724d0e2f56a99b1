package auth

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAnonymous(t *testing.T) {
	c, err := Anonymous{}.Credential(t.Context(), Request{Host: "quay.io"})
	if err != nil || !c.Anonymous() {
		t.Errorf("%+v, %v", c, err)
	}
	s := NewSensitive(text)
	for _, c := range []Credential{{Username: "u"}, {Password: s}, {RefreshToken: s}, {AccessToken: s}} {
		if c.Anonymous() {
			t.Errorf("%+v proves nothing", c)
		}
	}
}

// spy is a secret that counts how often it is read.
type spy struct {
	reads   int
	text    string
	version string
	err     error
}

func (s *spy) Read(context.Context) (Sensitive, string, error) {
	s.reads++
	return NewSensitive(s.text), s.version, s.err
}

func TestCredentialSetIsForOneHost(t *testing.T) {
	user, pass := &spy{text: "alice"}, &spy{text: text}
	set := &CredentialSet{Name: "hub", LoginServer: "docker.io", Username: user, Password: pass}
	for _, host := range []string{"", "quay.io", "docker.io.evil.example", "evil-docker.io", "docker.io:443", "docker.io:5000", "DOCKER.IO", "registry-1.docker.io", "io"} {
		c, err := set.Credential(t.Context(), Request{Rule: "r", Host: host})
		if !errors.Is(err, ErrHost) || !c.Anonymous() {
			t.Errorf("%q: %v", host, err)
		}
		if err == nil || !strings.Contains(err.Error(), `"hub"`) || leaks(err.Error()) {
			t.Errorf("%q: the error does not name the set: %v", host, err)
		}
		if err := set.Check(host); !errors.Is(err, ErrHost) {
			t.Errorf("%q: Check: %v", host, err)
		}
	}
	if user.reads+pass.reads != 0 {
		t.Error("secrets were read for a host that may not see them")
	}
	c, err := set.Credential(t.Context(), Request{Rule: "r", Host: "docker.io"})
	if err != nil || c.Username != "alice" || c.Password.Reveal() != text || !c.RefreshToken.Empty() || !c.AccessToken.Empty() || set.Check("docker.io") != nil {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestCredentialSetFaults(t *testing.T) {
	broken := errors.New("vault is closed")
	good := &spy{text: "x"}
	for name, c := range map[string]struct {
		set  *CredentialSet
		want string
		is   error
	}{
		"nothing":     {&CredentialSet{}, "no secret", nil},
		"no user":     {&CredentialSet{Password: good}, "no secret", nil},
		"no password": {&CredentialSet{Username: good}, "no secret", nil},
		"user":        {&CredentialSet{Username: &spy{err: broken}, Password: good}, "user name", broken},
		"password":    {&CredentialSet{Username: good, Password: &spy{err: broken}}, "password", broken},
	} {
		c.set.Name, c.set.LoginServer = "hub", "docker.io"
		cred, err := c.set.Credential(t.Context(), Request{Host: "docker.io"})
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), `"hub"`) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v", name, err)
		}
		if !cred.Anonymous() || cred.Version != "" {
			t.Errorf("%s: a credential came with the error", name)
		}
	}
}

// TestCredentialSetVersion: tokens are kept by version, which changes with each of its
// parts and only then, and cannot be made equal by moving characters between them.
func TestCredentialSetVersion(t *testing.T) {
	set := &CredentialSet{LoginServer: "h"}
	of := func(user, uv, pass, pv string) string {
		set.Username, set.Password = &spy{text: user, version: uv}, &spy{text: pass, version: pv}
		c, err := set.Credential(t.Context(), Request{Host: "h"})
		if err != nil || c.Version == "" {
			t.Fatalf("%+v, %v", c, err)
		}
		if strings.Contains(c.Version, pass) {
			t.Fatalf("the version %q tells the password", c.Version)
		}
		return c.Version
	}
	seen := map[string]string{}
	for _, c := range [][4]string{
		{"alice", "1", "pw", "1"}, {"bob", "1", "pw", "1"}, {"alice", "2", "pw", "1"}, {"alice", "1", "pw2", "1"}, {"alice", "1", "pw", "2"},
		{"alicep", "1", "w", "1"}, {"alice", "", "pw", ""}, {"pw", "1", "alice", "1"},
		{"alice", "", "1pw", "1"},
	} {
		v := of(c[0], c[1], c[2], c[3])
		if v != of(c[0], c[1], c[2], c[3]) {
			t.Errorf("%q: the version changes by itself", c)
		}
		if other, twice := seen[v]; twice {
			t.Errorf("%q has the version of %s", c, other)
		}
		seen[v] = fmt.Sprint(c)
	}
	guess, err := (&CredentialSet{LoginServer: "h", Username: &spy{text: "alice", version: "1"}, Password: &spy{text: "pw", version: "1"}}).Credential(t.Context(), Request{Host: "h"})
	if _, same := seen[guess.Version]; err != nil || same {
		t.Errorf("a password can be guessed at by the version of another set: %v", err)
	}
}

func TestValue(t *testing.T) {
	s, version, err := Value{NewSensitive(text)}.Read(t.Context())
	if err != nil || s.Reveal() != text || version != "" {
		t.Errorf("%q, %q, %v", s.Reveal(), version, err)
	}
}

func TestEnv(t *testing.T) {
	const name = "PULLTHROUGH_TEST_TOKEN"
	t.Setenv(name, text)
	s, _, err := Env(name).Read(t.Context())
	if err != nil || s.Reveal() != text {
		t.Errorf("%q, %v", s.Reveal(), err)
	}
	t.Setenv(name, "rotated")
	if s, _, _ := Env(name).Read(t.Context()); s.Reveal() != "rotated" {
		t.Error("a changed variable is not seen")
	}
	for _, unset := range []bool{false, true} {
		t.Setenv(name, "")
		if unset {
			os.Unsetenv(name)
		}
		if s, _, err := Env(name).Read(t.Context()); err == nil || !s.Empty() || !strings.Contains(err.Error(), name) {
			t.Errorf("unset %v: %v", unset, err)
		}
	}
}

func TestFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "token")
	write := func(data string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for data, want := range map[string]string{
		text: text, text + "\n": text, text + "\r\n": text, text + "\n\n": text + "\n", " " + text + " \n": " " + text + " ", "two\nlines\n": "two\nlines",
	} {
		write(data) // with one name each time: a rotated file is read at the next use
		s, _, err := File(name).Read(t.Context())
		if err != nil || s.Reveal() != want {
			t.Errorf("%q: %q, %v", data, s.Reveal(), err)
		}
	}
	for _, data := range []string{"", "\n", "\r\n"} {
		write(data)
		if s, _, err := File(name).Read(t.Context()); err == nil || !s.Empty() {
			t.Errorf("%q: %v", data, err)
		}
	}
	if _, _, err := File(name + ".none").Read(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// TestRotation: a secret that was rotated gives another credential at the next use.
func TestRotation(t *testing.T) {
	name := filepath.Join(t.TempDir(), "password")
	set := &CredentialSet{Name: "s", LoginServer: "h", Username: Value{NewSensitive("u")}, Password: File(name)}
	var versions []string
	for _, data := range []string{"one", "two", "two"} {
		if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := set.Credential(t.Context(), Request{Host: "h"})
		if err != nil || c.Password.Reveal() != data {
			t.Fatalf("%q, %v", c.Password.Reveal(), err)
		}
		versions = append(versions, c.Version)
	}
	if versions[0] == versions[1] || versions[1] != versions[2] {
		t.Errorf("versions %q", versions)
	}
}

func TestFederatedIdentity(t *testing.T) {
	f := FederatedIdentity{TenantID: "tenant-1", ClientID: "client-1"}
	c, err := f.Credential(t.Context(), Request{Rule: "cross", Host: "other.azurecr.io"})
	denied, ok := errors.AsType[*DeniedError](err)
	if !ok || !errors.Is(err, ErrFederatedIdentity) || !c.Anonymous() {
		t.Fatalf("%+v, %v", c, err)
	}
	for _, word := range []string{"cross", "tenant-1", "client-1", "not supported"} {
		if !strings.Contains(denied.Reason, word) {
			t.Errorf("the reason does not say %q: %s", word, denied.Reason)
		}
	}
}

func TestDeniedError(t *testing.T) {
	cause := errors.New("cause")
	if e := (&DeniedError{Reason: "no"}); e.Error() != "auth: no" || e.Unwrap() != nil {
		t.Errorf("%v", e)
	}
	if e := (&DeniedError{Reason: "no", Err: cause}); e.Error() != "auth: no: cause" || !errors.Is(e, cause) {
		t.Errorf("%v", e)
	}
}
