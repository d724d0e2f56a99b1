package inbound_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/pullthrough/pullthrough/examples/proxy/inbound"
)

// from makes a request come from an address, behind a reverse proxy.
func from(address string, by proof) proof {
	return func(r *http.Request) {
		by(r)
		r.Header.Set("X-Forwarded-For", address)
	}
}

// TestFailedLoginsWait: an address that fails too often must wait, and is told how long. Others, and those who
// are known at that address, go on.
func TestFailedLoginsWait(t *testing.T) {
	s := newSite(t, &inbound.Gate{Proxies: loopback, FailedLogins: inbound.Rate{Count: 3, Per: time.Hour}}, nil)
	const here, elsewhere = "192.0.2.1", "192.0.2.2"
	alice, carol := basic("alice", alicePassword), basic("carol", carolPassword)
	s.want("/v2/", from(here, alice), 200)
	token := s.get(from(here, alice), pull("team/app"))
	for i := range 3 {
		s.want("/v2/", from(here, basic("mallory", fmt.Sprint("guess ", i))), 401)
	}
	for _, path := range []string{"/v2/", "/token", "/v2/_catalog", "/v2/team/app/manifests/v1"} {
		a := s.want(path, from(here, basic("mallory", "guess 4")), 429, `"code":"TOOMANYREQUESTS"`)
		if seconds, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || seconds < 1000 || seconds > 1200 {
			t.Errorf("%s: Retry-After is %q", path, a.header.Get("Retry-After"))
		}
	}
	s.want("/v2/", from(here, carol), 429)             // nobody knows yet who that is
	s.want("/v2/", from(here, bearer("a guess")), 429) // guesses of tokens count, too
	s.want("/v2/", from(here, bearer(ciToken)), 200)   // a token is no guess
	s.want("/v2/", from(here, bearer(token.Token)), 200)
	s.want("/v2/", from(here, alice), 200)
	s.want("/v2/", from(elsewhere, carol), 200)
	// Who is known at an address has failures of his own.
	for i := range 3 {
		s.want("/v2/", from(here, basic("alice", fmt.Sprint("typo ", i))), 401)
	}
	s.want("/v2/", from(here, basic("alice", "typo 4")), 429)
	s.want("/v2/", from(here, alice), 200)
	// Right logins are no failures, however many there are.
	for range 10 {
		s.want("/v2/", from(elsewhere, carol), 200)
	}
	// Of IPv6, a /64 is one client.
	for i := range 3 {
		s.want("/v2/", from(fmt.Sprintf("2001:db8::%d", i+1), basic("mallory", "x")), 401)
	}
	s.want("/v2/", from("2001:db8::ffff:1", basic("mallory", "x")), 429)
	s.want("/v2/", from("2001:db8:0:1::1", basic("mallory", "x")), 401)
}

// TestWrongLoginsStarveNobody: while thousands of wrong logins come from many addresses, those who are known
// log in anew, and those who have logged in are not slowed.
func TestWrongLoginsStarveNobody(t *testing.T) {
	s := newSite(t, &inbound.Gate{Proxies: loopback}, func(s *site) {
		hash, err := bcrypt.GenerateFromPassword([]byte(alicePassword), 6) // slow enough to be worth an attack
		if err != nil {
			t.Fatal(err)
		}
		write(t, s.htpasswd, "alice:"+string(hash)+"\n"+htpasswd(t, "carol", carolPassword))
	})
	alice := from("192.0.2.1", basic("alice", alicePassword))
	s.want("/v2/", alice, 200)
	var sent, limited atomic.Int64
	stop := make(chan struct{})
	var attack sync.WaitGroup
	for i := range 96 {
		attack.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				address := fmt.Sprintf("198.51.%d.%d", i, n/2%256)
				a := s.do("/v2/", from(address, basic("alice", fmt.Sprint("guess ", i, n))))
				if sent.Add(1); a.status == 429 {
					limited.Add(1)
				}
				if a.status != 401 && a.status != 429 {
					t.Errorf("a guess has status %d", a.status)
				}
			}
		})
	}
	good := 0
	for round := 0; sent.Load() < 1500 && !t.Failed(); round++ {
		s.want("/v2/team/app/manifests/v1", alice, 200)
		if round%10 == 0 { // a new password: nothing is remembered of the old one
			hash, err := bcrypt.GenerateFromPassword([]byte(alicePassword), 6)
			if err != nil {
				t.Fatal(err)
			}
			write(t, s.htpasswd, "alice:"+string(hash)+"\n"+htpasswd(t, "carol", carolPassword))
			if err := s.gate.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		good++
	}
	close(stop)
	attack.Wait()
	if limited.Load() == 0 {
		t.Error("all guesses were checked")
	}
	t.Logf("%d good logins among %d wrong ones, %d of which were not even checked", good, sent.Load(), limited.Load())
}

// TestSameLoginIsCheckedOnce: a fleet that logs in at once with one password is no attack.
func TestSameLoginIsCheckedOnce(t *testing.T) {
	s := newSite(t, &inbound.Gate{FailedLogins: inbound.Rate{Count: 2, Per: time.Hour}}, nil)
	var fleet sync.WaitGroup
	for range 50 {
		fleet.Go(func() { s.want("/token", basic("alice", alicePassword), 200) })
	}
	fleet.Wait()
}

// TestUnknownUsersTakeAsLong: the time of a refusal does not tell who is known: for a user who is not, a password
// is compared as well.
func TestUnknownUsersTakeAsLong(t *testing.T) {
	s := newSite(t, &inbound.Gate{FailedLogins: inbound.Rate{Count: 1000, Per: time.Second}}, func(s *site) {
		hash, err := bcrypt.GenerateFromPassword([]byte(alicePassword), 8) // many times what a request takes
		if err != nil {
			t.Fatal(err)
		}
		write(t, s.htpasswd, "alice:"+string(hash)+"\n")
	})
	best := map[string]time.Duration{"alice": time.Hour, "mallory": time.Hour}
	quicker := func() bool { return best["mallory"] < best["alice"]/5 }
	// They come in turns, so that a busy machine slows both. It may slow all of the one's and spare one of
	// the other's; more turns find the time without it, which no number of turns makes less than the hash.
	for i := 0; i < 5 || quicker() && i < 50; i++ {
		for user := range best {
			begin := time.Now()
			s.want("/v2/", basic(user, fmt.Sprint("wrong ", i)), 401)
			best[user] = min(best[user], time.Since(begin))
		}
	}
	if quicker() {
		t.Errorf("a known user is refused in %v, an unknown one in %v", best["alice"], best["mallory"])
	}
}

// TestHtpasswd: what a file of passwords may have, and the mistakes in it, each with its line. No mistake tells
// a hash.
func TestHtpasswd(t *testing.T) {
	hash := strings.TrimSpace(strings.TrimPrefix(htpasswd(t, "x", "y"), "x:"))
	y := strings.Replace(hash, "$2a$", "$2y$", 1)
	for name, c := range map[string]struct{ text, want string }{
		"as htpasswd writes it": {"alice:" + y + "\nbob:" + hash + "\n", ""},
		"comments and Windows":  {"# users\r\n\r\nalice:" + y + "\r\n", ""},
		"no end of line":        {"alice:" + y, ""},
		"empty":                 {"", ""},
		"MD5":                   {"bob:" + hash + "\nalice:$apr1$salt$S3cretS3cretS3cret\n", `:2: the password of user "alice" is hashed with MD5, and only bcrypt is accepted; make it anew with: htpasswd -B `},
		"SHA":                   {"alice:{SHA}S3cretS3cretS3cret=\n", `:1: the password of user "alice" is hashed with SHA-1`},
		"crypt":                 {"alice:S3cretS3cret\n", "hashed with crypt, or not at all"},
		"cut":                   {"alice:" + hash[:40] + "\n", "a damaged bcrypt hash"},
		"longer":                {"alice:" + hash + "x\n", "a damaged bcrypt hash"},
		"cost":                  {"alice:" + strings.Replace(hash, "$04$", "$31$", 1) + "\n", `:1: the bcrypt cost of user "alice" is 31; 4 to 15 are accepted`},
		"no colon":              {"S3cretS3cret\n", ":1: USER:HASH is expected"},
		"no name":               {":" + hash + "\n", ":1: this cannot be the name of a user"},
		"control":               {"a\x07:" + hash + "\n", ":1: this cannot be the name"},
		"twice":                 {"alice:" + hash + "\n\nalice:" + y + "\n", `:3: user "alice" is in line 1 too`},
	} {
		path := t.TempDir() + "/users"
		write(t, path, c.text)
		err := (&inbound.Passwords{Path: path}).Load()
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", name, err, c.want)
		case err != nil && (strings.Contains(err.Error(), "S3cret") || strings.Contains(err.Error(), hash[10:40])):
			t.Errorf("%s: the hash is told: %v", name, err)
		}
	}
	all := (&inbound.Passwords{Path: "nowhere"}).Load()
	if all == nil {
		t.Error("a missing file is no mistake")
	}
}

// TestEveryHashOfHtpasswd: the forms of bcrypt that htpasswd and others write are accepted.
func TestEveryHashOfHtpasswd(t *testing.T) {
	for _, form := range []string{"$2a$", "$2b$", "$2y$"} {
		s := newSite(t, &inbound.Gate{}, func(s *site) {
			write(t, s.htpasswd, strings.Replace(htpasswd(t, "alice", alicePassword), "$2a$", form, 1))
		})
		s.want("/v2/", basic("alice", alicePassword), 200)
		s.want("/v2/", basic("alice", alicePassword+"x"), 401)
	}
}

// TestRefresh: a changed file is in force after Refresh; one with mistakes changes nothing.
func TestRefresh(t *testing.T) {
	s := newSite(t, &inbound.Gate{}, nil)
	alice := basic("alice", alicePassword)
	s.want("/v2/", alice, 200)
	write(t, s.htpasswd, "alice:plain\n")
	if err := s.gate.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), s.htpasswd+":1: ") {
		t.Errorf("%v, want the line", err)
	}
	s.want("/v2/", alice, 200)
	write(t, s.htpasswd, htpasswd(t, "alice", "another-password"))
	if err := s.gate.Refresh(t.Context()); err != nil {
		t.Error(err)
	}
	s.want("/v2/", alice, 401)
	s.want("/v2/", basic("alice", "another-password"), 200)
}
