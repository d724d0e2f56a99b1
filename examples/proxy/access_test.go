package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

const alicePassword = "s3cret-of-alice"

// htpasswd writes a file with users, each with a password.
func htpasswd(t *testing.T, path string, users ...string) {
	t.Helper()
	var text strings.Builder
	for _, user := range users {
		name, password, _ := strings.Cut(user, ":")
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "%s:%s\n", name, hash)
	}
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

// ask makes a GET with credentials, if user is not empty.
func ask(t *testing.T, c *http.Client, url, user, password string) (int, http.Header, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, body
}

// TestAccess: the whole program lets in who is allowed, follows changes of its files by itself and at
// SIGHUP, says so in its log, and tells no secret.
func TestAccess(t *testing.T) {
	up, dir := upstreamtest.NewRegistry(t), t.TempDir()
	img := up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1000))
	up.AddImage("team/other", "v1", upstreamtest.Layers(1, 1000))
	users, token := filepath.Join(dir, "users"), filepath.Join(dir, "token")
	htpasswd(t, users, "alice:"+alicePassword)
	writeText(t, token, "static-token-of-the-builder\n")
	config := func(pattern string) string {
		return file(up, "access:", "  htpasswd: "+users, "  users: [{name: alice, pull: ["+pattern+"]}]", "  tokens: [{name: builder, token: {file: "+token+"}, pull: ['*']}]")
	}
	p := startProxy(t, config("local/team/app"))
	path := p.url + "/v2/local/team/app/manifests/v1"
	want := func(user, password string, status int) {
		t.Helper()
		if got, _, body := ask(t, client(), path, user, password); got != status || got == 200 && !bytes.Equal(body, img.Manifest) {
			t.Errorf("%s: status %d, want %d: %s", user, got, status, body)
		}
	}
	want("", "", 401)
	want("alice", "wrong", 401)
	want("alice", alicePassword, 200)
	want("builder", "static-token-of-the-builder", 200)

	status, header, _ := ask(t, client(), p.url+"/v2/", "", "")
	if challenge := `Bearer realm="` + p.url + `/token",service="pullthrough"`; status != 401 || header.Get("WWW-Authenticate") != challenge {
		t.Errorf("/v2/: status %d, %v, want the challenge %s", status, header, challenge)
	}
	status, _, body := ask(t, client(), p.url+"/token?service=pullthrough&scope=repository:local/team/app:pull&scope=repository:local/team/other:pull", "alice", alicePassword)
	var answer struct{ Token, Scope string }
	if err := json.Unmarshal(body, &answer); err != nil || status != 200 || answer.Scope != "repository:local/team/app:pull" {
		t.Fatalf("/token: status %d: %s", status, body)
	}

	htpasswd(t, users, "alice:another-password-of-alice")
	writeText(t, token, "static-token-of-tomorrow\n")
	p.until(t, "the files to be read again", func() bool { return strings.Contains(p.log.String(), "files have changed and were read again") })
	want("alice", "another-password-of-alice", 200)
	want("alice", alicePassword, 401)
	want("builder", "static-token-of-the-builder", 401)
	want("builder", "static-token-of-tomorrow", 200)
	p.reload(t, config("local/team/other"), reloaded)
	want("alice", "another-password-of-alice", 403)
	writeText(t, users, "alice:$apr1$x$S3cretHash\n")
	p.until(t, "the mistake in the log", func() bool { return strings.Contains(p.log.String(), users+":1: the password of user") })
	want("alice", "another-password-of-alice", 403) // as before
	p.reload(t, config("local/team/app"), "not reloaded: the file is wrong")
	p.signal(t)
	p.wantExit(t, exitOK)

	wantAccessLog(t, p, alicePassword, "another-password-of-alice", "static-token-of", "S3cretHash", answer.Token)
}

// wantAccessLog fails unless the log says who has pulled and who was refused, without secrets.
func wantAccessLog(t *testing.T, p *process, secrets ...string) {
	t.Helper()
	log := p.log.String()
	for _, secret := range secrets {
		if strings.Contains(log+p.out.String(), secret) {
			t.Errorf("a secret is in the log:\n%s", log)
		}
	}
	for _, words := range []string{
		`level=INFO msg=request method=GET kind=manifest repository=local/team/app reference=v1 rule=local status=401`, `user=user:alice`, `user=token:builder`, `client=127.0.0.1`,
		`level=WARN msg=request method=GET kind=manifest repository=local/team/app reference=v1 rule=local status=401`, `kind=token`, `wrong credentials of user \"alice\""`,
	} {
		if !strings.Contains(log, words) {
			t.Errorf("%q is not in the log:\n%s", words, log)
		}
	}
}

// writeText writes a file.
func writeText(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestAccessMistakes has one row for each mistake about clients, as [TestMistakes].
func TestAccessMistakes(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	htpasswd(t, "users", "alice:x")
	writeText(t, "md5", "# users\nalice:$apr1$x$y\nbob\n")
	writeText(t, "no.pem", "no key\n")
	writeCertificate(t, "cert.pem", "key.pem")
	const users = "access:\n  htpasswd: users\n"
	hub := "rules:\n  - {name: docker-hub, source: docker.io/*, target: hub/*}\n"
	for _, test := range []struct{ name, file, want string }{
		{"nobody", "access: {}\n", "1: access: lets nobody in"},
		{"unknown key", users + "  user: []\n", "3: access.user: unknown key; did you mean users?"},
		{"no file", "access:\n  htpasswd: nowhere\n", "2: access.htpasswd: stat nowhere: no such file"},
		{"another hash", "access:\n  htpasswd: md5\n", `2: access.htpasswd: md5:2: the password of user "alice" is hashed with MD5, and only bcrypt is accepted; make it anew with: htpasswd -B md5 alice`},
		{"a second mistake of the file", "access:\n  htpasswd: md5\n", `2: access.htpasswd: md5:3: USER:HASH is expected`},
		{"users without a file", "access:\n  users:\n    - {name: alice, pull: ['*']}\n", "3: access.users[0]: needs htpasswd"},
		{"user without a name", users + "  users:\n    - {pull: ['*']}\n", "4: access.users[0]: name is missing"},
		{"user twice", users + "  users:\n    - {name: a, pull: [x]}\n    - {name: a, pull: [y]}\n", `5: access.users[1].name: "a" is the name in line 4 too`},
		{"pattern", users + "  users:\n    - {name: alice, pull: ['Team/*']}\n", `4: access.users[0].pull[0]: "Team/*": no repository has 'T' in its name`},
		{"pattern with a tag", users + "  anonymous: ['hub/*:v1']\n", `3: access.anonymous[0]: "hub/*:v1": no repository has ':' in its name`},
		{"no pattern", users + "  anonymous: []\n", "3: access.anonymous: is empty"},
		{"another name", hub + "access: {anonymous: [hub/alpine]}\n", `3: access.anonymous[0]: "hub/alpine" is another name of "hub/library/alpine", and patterns have canonical names: write "hub/library/alpine"`},
		{"token without a secret", "access:\n  tokens:\n    - {name: ci, pull: ['*']}\n", "3: access.tokens[0]: token is missing"},
		{"two secrets", "access:\n  tokens:\n    - {name: ci, token: {env: A, file: b}}\n", "3: access.tokens[0].token: wants exactly one of value, env and file"},
		{"secret of a vault", "access:\n  tokens:\n    - {name: ci, token: {keyVault: https://x}}\n", "3: access.tokens[0].token.keyVault: unknown key; keyVault belongs into credentials"},
		{"short token", "access:\n  tokens:\n    - {name: ci, token: {value: fifteen-letters}}\n", "3: access.tokens[0].token.value: has less than 16 characters"},
		{"a secret of a user", users + "  users:\n    - {name: alice, token: {value: x}}\n", "4: access.users[0].token: unknown key; token belongs into access.tokens[]"},
		{"certificates without an authority", "access:\n  certificates:\n    - {name: a, pull: ['*']}\n", "3: access.certificates[0]: needs tls.clientCA"},
		{"challenge", users + "  challenge: digest\n", `3: access.challenge: "digest" is neither bearer nor basic`},
		{"service of no service", users + "  challenge: basic\n  tokenService: {service: x}\n", "4: access.tokenService: makes no sense with challenge: basic"},
		{"realm", users + "  tokenService: {realm: cache.example.com/token}\n", `3: access.tokenService.realm: "cache.example.com/token" is not a URL such as https://cache.example.com/token`},
		{"quotes in the realm", users + "  tokenService: {realm: 'https://x/\"'}\n", "3: access.tokenService.realm: "},
		{"service", users + "  tokenService: {service: 'my cache'}\n", `3: access.tokenService.service: "my cache" is not a name`},
		{"key", users + "  tokenService: {key: no.pem}\n", "3: access.tokenService.key: no.pem has no private key; make one with: openssl genpkey -algorithm ed25519"},
		{"lifetime", users + "  tokenService: {lifetime: 10s}\n", "3: access.tokenService.lifetime: must lie between 1m0s and 24h0m0s"},
		{"refresh without key", users + "  tokenService: {refreshLifetime: 720h}\n", "3: access.tokenService: refreshLifetime needs key"},
		{"proxy", "trustedProxies: [10.0.0.0/8, gateway]\n", `1: trustedProxies[1]: "gateway" is neither a network such as 10.0.0.0/8 nor an address`},
		{"everybody a proxy", "trustedProxies: ['0.0.0.0/0']\n", `1: trustedProxies[0]: "0.0.0.0/0" would believe everybody`},
		{"rate", "limits: {requestsPerAddress: 100}\n", `1: limits.requestsPerAddress: "100" is not a rate such as 100/s, 600/m or 5000/h`},
		{"number", "limits: {connections: 0}\n", `1: limits.connections: "0" is not a number such as 1000`},
		{"bytes", "limits: {headerBytes: 100}\n", "1: limits.headerBytes: must lie between 1KiB and 64MiB"},
		{"unknown limit", "limits: {connexions: 1}\n", "1: limits.connexions: unknown key; did you mean connections?"},
		{"client certificates without an authority", "tls: {cert: cert.pem, key: key.pem, clientAuth: require}\n", "1: tls.clientAuth: needs clientCA"},
		{"client certificates", "tls: {cert: cert.pem, key: key.pem, clientCA: cert.pem, clientAuth: maybe}\n", `1: tls.clientAuth: "maybe" is neither require nor request`},
		{"authority", "tls: {cert: cert.pem, key: key.pem, clientCA: no.pem}\n", "1: tls.clientCA: no.pem has no certificate in PEM form"},
	} {
		t.Run(test.name, func(t *testing.T) {
			writeText(t, "proxy.yaml", test.file)
			_, err := build("proxy.yaml")
			if err == nil {
				t.Fatal("the file is valid")
			}
			if !strings.Contains(err.Error()+"\n", "proxy.yaml:"+test.want) {
				t.Errorf("got:\n%v\nwant %q in it", err, test.want)
			}
			wantRefusedBySchema(t, test.file, err.Error())
			if n := strings.Count(err.Error(), "\n"); n > 0 && !strings.Contains(test.file, "md5") {
				t.Errorf("%d more mistakes:\n%v", n, err)
			}
		})
	}
}

// TestAccessFixed: which changes about clients need a restart.
func TestAccessFixed(t *testing.T) {
	t.Chdir(t.TempDir())
	htpasswd(t, "users", "alice:x")
	writeCertificate(t, "cert.pem", "key.pem")
	const pair = "tls: {cert: cert.pem, key: key.pem"
	for _, test := range []struct{ name, before, after, want string }{
		{"who may pull what", "access: {anonymous: [a]}\n", "access: {anonymous: [b], htpasswd: users, users: [{name: alice, pull: [c]}], tokens: [{name: ci, token: {env: X}, pull: [d]}]}\n", ""},
		{"access", "", "access: {anonymous: [a]}\n", "access"},
		{"no access", "access: {anonymous: [a]}\n", "", "access"},
		{"challenge", "access: {anonymous: [a]}\n", "access: {anonymous: [a], challenge: basic}\n", "access"},
		{"service", "access: {anonymous: [a]}\n", "access: {anonymous: [a], tokenService: {service: x}}\n", "access"},
		{"limits", "", "limits: {connections: 5}\n", "limits"},
		{"proxies", "", "trustedProxies: [10.0.0.0/8]\n", "trustedProxies"},
		{"client certificates", pair + "}\n", pair + ", clientCA: cert.pem}\n", "tls"},
		{"asking for them", pair + ", clientCA: cert.pem}\n", pair + ", clientCA: cert.pem, clientAuth: request}\n", "tls"},
		{"their authority", pair + ", clientCA: cert.pem}\n", pair + ", clientCA: cert.pem}\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := strings.Join(built(t, test.before).fixed(built(t, test.after)), ", "); got != test.want {
				t.Errorf("keys %q, want %q", got, test.want)
			}
		})
	}
}

// TestWarningsOfAccess: what is told at the start where other machines reach the proxy.
func TestWarningsOfAccess(t *testing.T) {
	dir := t.TempDir()
	cert, key, users := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "users")
	writeCertificate(t, cert, key)
	htpasswd(t, users, "alice:x")
	secure := fmt.Sprintf("tls: {cert: %q, key: %q", cert, key)
	for name, c := range map[string]struct{ file, want, not string }{
		"users, in the clear":        {"access: {htpasswd: " + users + "}\n", "cross the network in the clear", "not authorized"},
		"users behind a gateway":     {"access: {htpasswd: " + users + "}\ntrustedProxies: [10.0.0.1]\n", "", "network in the clear"},
		"users and TLS":              {"access: {htpasswd: " + users + "}\n" + secure + "}\n", "", "level=WARN msg=\"clients"},
		"everybody":                  {"access: {anonymous: ['*']}\n", "clients are not authorized", ""},
		"a certificate that must be": {secure + ", clientCA: " + cert + "}\n", "", "not authorized"},
		"one that may be":            {secure + ", clientCA: " + cert + ", clientAuth: request}\n", "clients are not authorized", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := startProxy(t, "listen: 0.0.0.0:0\n"+c.file)
			p.signal(t)
			p.wantExit(t, exitOK)
			if log := p.log.String(); !strings.Contains(log, c.want) || c.not != "" && strings.Contains(log, c.not) {
				t.Errorf("%q is not in the log, or %q is:\n%s", c.want, c.not, log)
			}
		})
	}
}

// TestLimitsOfTheFile: what limits says is in force.
func TestLimitsOfTheFile(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1000))
	p := startProxy(t, file(up, "limits: {connections: 3, connectionsPerAddress: 2, requestsPerAddress: 5/h, headerBytes: 8KiB}"))
	req, err := http.NewRequestWithContext(t.Context(), "GET", p.url+"/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Long", strings.Repeat("x", 16<<10))
	c := &http.Client{Transport: &http.Transport{}} // which keeps its connection
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a header of 16 KiB: status %d", resp.StatusCode)
	}
	for i := range 6 {
		status, header, body := ask(t, c, p.url+"/v2/", "", "")
		if limited := i == 5; limited != (status == 429) || limited && !strings.Contains(string(body), "TOOMANYREQUESTS") {
			t.Errorf("request %d: status %d, %v: %s", i, status, header, body)
		}
		// The time since the first request counts, so it is a little less than a fifth of an hour.
		if after, err := strconv.Atoi(header.Get("Retry-After")); i == 5 && (err != nil || after < 600 || after > 720) {
			t.Errorf("Retry-After is %q", header.Get("Retry-After"))
		}
	}
	c.CloseIdleConnections()

	// A connection is one of those that there may be if it is answered.
	dial := func() (net.Conn, bool) {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn, answered(conn)
	}
	var open []net.Conn
	p.until(t, "two connections", func() bool {
		if conn, ok := dial(); ok {
			open = append(open, conn)
		}
		return len(open) == 2
	})
	if _, ok := dial(); ok {
		t.Error("a third connection is answered")
	}
	for _, conn := range open {
		if !answered(conn) {
			t.Error("a connection that was there is not answered any more")
		}
	}
	p.until(t, "the line about it", func() bool {
		return regexp.MustCompile(`level=WARN msg="connections were refused: too many are open" refused=[0-9]+ open=2 last=127.0.0.1`).MatchString(p.log.String())
	})
}

// answered reports whether a request on a connection gets its whole answer.
func answered(conn net.Conn) bool {
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprint(conn, "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err == nil
}
