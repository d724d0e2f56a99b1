package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// secretToken is the token of the tests.
const secretToken = "token-of-the-tests-0123456789"

// TestAdminAccessKeys: each mistake has its line, its key and a remedy, and repeats no secret.
func TestAdminAccessKeys(t *testing.T) {
	dir := t.TempDir()
	cert, key, none := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "none.pem")
	writeCertificate(t, cert, key)
	if err := os.WriteFile(none, []byte("no PEM\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	secure := fmt.Sprintf("tls: {cert: %q, key: %q}", cert, key)
	for text, want := range map[string]string{
		"adminAccess: {token: {value: " + secretToken + "}}":                             "1: adminAccess: is without effect: there is no admin address; give admin",
		"admin: 127.0.0.1:1\nadminAccess: {token: {value: s3cret}}":                      "2: adminAccess.token: the token has 6 bytes; use 16 or more",
		"admin: 127.0.0.1:1\nadminAccess: {token: {value: s3cret of the boss}}":          "2: adminAccess.token: the token has a space",
		"admin: 127.0.0.1:1\nadminAccess: {token: {}}":                                   "2: adminAccess.token: wants exactly one of value, env and file",
		"admin: 127.0.0.1:1\nadminAccess: {token: s3cret}":                               "2: adminAccess.token: wants keys with values",
		"admin: 127.0.0.1:1\nadminAccess: {token: {keyVault: x}}":                        "2: adminAccess.token.keyVault: unknown key",
		"admin: 127.0.0.1:1\nadminAccess: {clientCA: " + cert + "}":                      "2: adminAccess.clientCA: needs adminAccess.tls",
		"admin: 127.0.0.1:1\nadminAccess: {clientCA: " + none + ", " + secure + "}":      "none.pem has no certificate in PEM form",
		"admin: 127.0.0.1:1\nadminAccess: {clientCA: /nowhere, " + secure + "}":          "/nowhere",
		"admin: 127.0.0.1:1\nadminAccess: {tls: {cert: " + cert + "}}":                   "2: adminAccess.tls: key is missing",
		"admin: 127.0.0.1:1\nadminAccess: {tls: {cert: " + key + ", key: " + cert + "}}": "2: adminAccess.tls: tls:",
		"admin: 127.0.0.1:1\nadminAccess: {names: [\"a/b\"]}":                            `2: adminAccess.names[0]: "a/b" is no name of a host`,
		"admin: 127.0.0.1:1\nadminAccess: {names: [\"a.example:80\"]}":                   `2: adminAccess.names[0]: "a.example:80" is no name of a host`,
	} {
		_, err := build(configFile(t, text+"\n"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n%v\nwant %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("the token is in %v", err)
		}
	}
	s, err := build(configFile(t, "admin: Admin.Example.com:1\nadminAccess: {token: {env: NOT_SET_ANYWHERE}, names: [B.example.com.], clientCA: "+cert+", "+secure+"}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if a := s.access; a.Token == nil || !a.Certificates || a.OpenReading || !slices.Equal(a.Names, []string{"admin.example.com", "b.example.com"}) ||
		s.adminTLS == nil || s.adminTLS.ClientAuth != tls.VerifyClientCertIfGiven {
		t.Errorf("%+v", a)
	}
	if s, err = build(configFile(t, "admin: '[::1]:1'\n")); err != nil || !s.access.OpenReading || s.access.Acting() || len(s.access.Names) > 0 {
		t.Errorf("%+v, %v", s.access, err)
	}
}

// adminOf returns the address of a proxy's admin listener.
func adminOf(t *testing.T, p *process) string {
	t.Helper()
	var found []string
	p.until(t, "the admin address in the log", func() bool {
		found = regexp.MustCompile(`msg="serving the status page" address=(\S+)`).FindStringSubmatch(p.log.String())
		return found != nil
	})
	return found[1]
}

// TestAdminExposed: where others reach the admin address, the log warns of what they can see, and
// they see nothing else.
func TestAdminExposed(t *testing.T) {
	for name, test := range map[string]struct{ access, warns string }{
		"nobody": {"", "the page and the API are off there until adminAccess has a token or a clientCA"},
		"token":  {"adminAccess: {token: {value: " + secretToken + "}}\n", "the token travels there unencrypted: set adminAccess.tls"},
	} {
		t.Run(name, func(t *testing.T) {
			p := startProxy(t, "listen: 127.0.0.1:0\nadmin: 0.0.0.0:0\n"+test.access)
			_, port, _ := strings.Cut(adminOf(t, p), "]:")
			if status, body := fetch(t, client(), "http://127.0.0.1:"+port+"/api/v1/stats"); status != http.StatusForbidden && status != http.StatusUnauthorized {
				t.Errorf("status %d: %s", status, body)
			}
			if status, body := fetch(t, client(), "http://127.0.0.1:"+port+"/healthz"); status != 200 {
				t.Errorf("/healthz: status %d: %s", status, body)
			}
			p.until(t, "the warning", func() bool { return strings.Contains(p.log.String(), test.warns) })
			if strings.Contains(p.log.String(), secretToken) {
				t.Error("the token is in the log")
			}
		})
	}
	p := startProxy(t, "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n")
	adminOf(t, p)
	p.signal(t)
	p.wantExit(t, exitOK)
	if strings.Contains(p.log.String(), "other machines") {
		t.Error("there is a warning on loopback")
	}
}

// TestTokenInAFile: a token is read at every use, and one that cannot be read lets nobody act.
func TestTokenInAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	p := startProxy(t, "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nadminAccess: {token: {file: "+file+"}}\n")
	evict := func(token string, want int) {
		t.Helper()
		req, err := http.NewRequest(http.MethodPost, "http://"+adminOf(t, p)+"/api/v1/evict", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != want {
			t.Errorf("status %d, want %d: %s", resp.StatusCode, want, body)
		}
		if bytes.Contains(body, []byte(token)) || bytes.Contains(body, []byte(file)) {
			t.Errorf("the answer has the token or the name of its file: %s", body)
		}
	}
	adminOf(t, p)
	p.until(t, "the warning", func() bool { return strings.Contains(p.log.String(), "the token of adminAccess cannot be read") })
	evict(secretToken, http.StatusServiceUnavailable)
	for _, token := range []string{secretToken, secretToken + "-2"} {
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		evict(token, http.StatusOK)
		evict(token+"x", http.StatusUnauthorized)
	}
	evict(secretToken, http.StatusUnauthorized)
	if err := os.WriteFile(file, []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	evict("short", http.StatusServiceUnavailable)
	p.until(t, "the reason in the log", func() bool {
		return strings.Contains(p.log.String(), "fewer than 16 bytes") || strings.Contains(p.log.String(), "no such file")
	})
	if strings.Contains(p.log.String(), secretToken) {
		t.Error("the token is in the log")
	}
}
