package fleet_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache/fleet"
	"github.com/pullthrough/pullthrough/upstream"
)

// Rank is a part of the protocol: replicas of all versions must agree.
func TestRankNeverChanges(t *testing.T) {
	s := upstream.Source{Rule: "team", Host: "registry.example.com", Repository: "team/app"}
	peers := []string{"10.0.0.1:5443", "10.0.0.2:5443", "10.0.0.3:5443", "10.0.0.4:5443", "[fd00::1]:5443"}
	for content, want := range map[string]string{
		"a": "[fd00::1]:5443 10.0.0.3:5443 10.0.0.2:5443 10.0.0.1:5443 10.0.0.4:5443",
		"b": "[fd00::1]:5443 10.0.0.2:5443 10.0.0.1:5443 10.0.0.3:5443 10.0.0.4:5443",
		"c": "10.0.0.2:5443 [fd00::1]:5443 10.0.0.3:5443 10.0.0.4:5443 10.0.0.1:5443",
	} {
		for range len(peers) {
			peers = append(peers[1:], peers[0])
			if got := strings.Join(fleet.Rank(peers, s, digest.FromString(content)), " "); got != want {
				t.Errorf("%s: %s", content, got)
			}
		}
	}
	other := s
	other.Rule = "team2"
	d := digest.FromString("a")
	if slices.Equal(fleet.Rank(peers, s, d), fleet.Rank(peers, other, d)) {
		t.Error("the rule does not count")
	}
	if got := fleet.Rank(nil, s, d); len(got) != 0 {
		t.Errorf("of nobody: %v", got)
	}
}

// A replica that leaves takes no other blob's first rank with it, and blobs are spread.
func TestRankSpreadsBlobs(t *testing.T) {
	s := upstream.Source{Rule: "team", Host: "registry.example.com", Repository: "team/app"}
	peers := []string{"a:1", "b:1", "c:1", "d:1"}
	first := map[string]int{}
	for i := range 4000 {
		d := digest.FromBytes([]byte{byte(i), byte(i >> 8)})
		ranked := fleet.Rank(peers, s, d)
		first[ranked[0]]++
		rest := slices.DeleteFunc(slices.Clone(peers), func(p string) bool { return p == ranked[3] })
		if got := fleet.Rank(rest, s, d); !slices.Equal(got, ranked[:3]) {
			t.Fatalf("%v without the last of them is %v", ranked, got)
		}
	}
	for p, n := range first {
		if n < 800 || n > 1200 {
			t.Errorf("%s is the first for %d of 4000", p, n)
		}
	}
}

func TestCheck(t *testing.T) {
	peers, secret := fleet.Static("a:1"), []byte("0123456789abcdef")
	trust := func(*http.Request) bool { return true }
	for want, f := range map[string]*fleet.Fleet{
		"": {Self: "a:1", Peers: peers, Secret: secret, Insecure: true},
		`fleet: Self is "", and must be the host:port that the other replicas reach this one at`:       {},
		`fleet: Self is "a", and must be the host:port that the other replicas reach this one at`:      {Self: "a", Peers: peers, Secret: secret, Insecure: true},
		`fleet: Self is ":1", and must be the host:port that the other replicas reach this one at`:     {Self: ":1", Peers: peers, Secret: secret, Insecure: true},
		`fleet: Self is "a:0", and must be the host:port that the other replicas reach this one at`:    {Self: "a:0", Peers: peers, Secret: secret, Insecure: true},
		`fleet: Self is "a b:1", and must be the host:port that the other replicas reach this one at`:  {Self: "a b:1", Peers: peers, Secret: secret, Insecure: true},
		`fleet: Self is "a:http", and must be the host:port that the other replicas reach this one at`: {Self: "a:http", Peers: peers, Secret: secret, Insecure: true},
		"fleet: Peers is missing": {Self: "a:1", Secret: secret, Insecure: true},
		"fleet: without TLS, the secret and all content can be read on their way: set TLS, or Insecure to accept that": {Self: "a:1", Peers: peers, Secret: secret},
		"fleet: Open contradicts Secret and Trust": {Self: "a:1", Peers: peers, Secret: secret, Insecure: true, Open: true},
		"fleet: without Secret or Trust, anyone could read every blob that a rule covers: set one of them, or Open to accept that": {Self: "a:1", Peers: peers, Insecure: true},
		"fleet: there are FormerSecrets and no Secret":                                                                 {Self: "a:1", Peers: peers, Trust: trust, Insecure: true, FormerSecrets: [][]byte{secret}},
		"fleet: a secret has 15 bytes, and needs 16 at least":                                                          {Self: "a:1", Peers: peers, Secret: secret[1:], Insecure: true},
		"fleet: a secret has 1 bytes, and needs 16 at least":                                                           {Self: "a:1", Peers: peers, Secret: secret, FormerSecrets: [][]byte{secret, []byte("x")}, Insecure: true},
		"fleet: a secret must consist of printable ASCII characters without blanks, such as 32 random bytes in base64": {Self: "a:1", Peers: peers, Secret: []byte("0123456789abcde\n"), Insecure: true},
	} {
		err := f.Check()
		if got := errorText(err); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
		_, opened := f.Opener(&upstream.Client{}).Open(upstream.Source{}, nil)
		if err != nil && !errors.Is(opened, err) {
			t.Errorf("the Opener of a wrong Fleet says %v", opened)
		}
	}
	for _, f := range []*fleet.Fleet{
		{Self: "[::1]:1", Peers: peers, Secret: secret, TLS: &tls.Config{}},
		{Self: "a:1", Peers: peers, Trust: trust, TLS: &tls.Config{}},
		{Self: "a:1", Peers: peers, Trust: trust, Secret: secret, TLS: &tls.Config{}},
		{Self: "a:1", Peers: peers, Open: true, TLS: &tls.Config{}},
	} {
		if err := f.Check(); err != nil {
			t.Error(err)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// What opens the doors says so in the log.
func TestDangerIsLogged(t *testing.T) {
	for want, f := range map[string]*fleet.Fleet{
		"anyone who reaches the peer listener can read": {Open: true, Insecure: true},
		"is not encrypted": {Secret: []byte(secret), Insecure: true},
	} {
		var log bytes.Buffer
		f.Self, f.Peers, f.Logger = "a:1", fleet.Static("a:1"), slog.New(slog.NewTextHandler(&log, nil))
		if err := f.Check(); err != nil || !strings.Contains(log.String(), want) || strings.Contains(log.String(), secret) {
			t.Errorf("%v, and the log says %s", err, log.String())
		}
	}
}

func TestStatic(t *testing.T) {
	list := []string{"a:1", "b:1"}
	peers := fleet.Static(list...)
	list[0] = "x"
	if got := peers(t.Context()); !slices.Equal(got, []string{"a:1", "b:1"}) {
		t.Error(got)
	}
	f := &fleet.Fleet{Self: "c:1", Peers: peers, Secret: []byte(secret), Insecure: true}
	want := []fleet.Member{{Address: "a:1"}, {Address: "b:1"}, {Address: "c:1", Self: true}}
	if got := f.Members(t.Context()); !slices.Equal(got, want) {
		t.Errorf("members: %+v", got)
	}
}

// names is a name server.
type names struct {
	mu        sync.Mutex
	addresses []string
	err       error
	wait      time.Duration
	asked     int
}

func (n *names) LookupHost(ctx context.Context, host string) ([]string, error) {
	n.mu.Lock()
	n.asked++
	wait, addresses, err := n.wait, slices.Clone(n.addresses), n.err
	n.mu.Unlock()
	select {
	case <-time.After(wait):
		return addresses, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (n *names) set(wait time.Duration, err error, addresses ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wait, n.err, n.addresses = wait, err, addresses
}

func (n *names) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked
}

func TestDNS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		n := &names{}
		n.set(500*time.Millisecond, nil, "10.0.0.2", "fd00::1", "10.0.0.1", "10.0.0.2")
		d := &fleet.DNS{Host: "peers", Port: "5443", Resolver: n, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		want := []string{"10.0.0.1:5443", "10.0.0.2:5443", "[fd00::1]:5443"}
		expect := func(when string, asked int) {
			t.Helper()
			began := time.Now()
			if got := d.Peers(t.Context()); !slices.Equal(got, want) {
				t.Errorf("%s: %v", when, got)
			}
			if asked > 1 && time.Since(began) > 0 {
				t.Errorf("%s: a call waited for %v", when, time.Since(began))
			}
			time.Sleep(2500 * time.Millisecond) // the lookup ends
			synctest.Wait()
			if n.count() != asked {
				t.Errorf("%s: %d lookups, want %d", when, n.count(), asked)
			}
		}
		var wg sync.WaitGroup
		for range 10 { // the first ones wait for one answer
			wg.Go(func() {
				if got := d.Peers(t.Context()); !slices.Equal(got, want) {
					t.Error(got)
				}
			})
		}
		wg.Wait()
		expect("at first", 1)
		n.set(time.Hour, nil)
		time.Sleep(3 * time.Second)
		expect("when the answer is old", 2)
		n.set(0, errors.New("refused"))
		time.Sleep(time.Second)
		expect("after a lookup that took too long", 3)
		n.set(0, nil)
		expect("after a failure", 4)
		if lines := strings.Count(log.String(), "\n"); lines != 1 || !strings.Contains(log.String(), "name=peers known=3") {
			t.Errorf("the log says:\n%s", log.String())
		}
		n.set(0, nil, "10.0.0.9")
		expect("after an empty answer", 5)
		want = []string{"10.0.0.9:5443"}
		expect("when there is a better answer", 5)
		n.set(0, errors.New("refused"))
		time.Sleep(5 * time.Second)
		expect("a second failure", 6)
		if lines := strings.Count(log.String(), "\n"); lines != 2 {
			t.Errorf("the log says:\n%s", log.String())
		}
	})
}

// A name that cannot be looked up at first holds nobody up for longer than the lookup may
// take, and only once.
func TestDNSThatFailsAtFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &names{}
		n.set(time.Hour, nil)
		d := &fleet.DNS{Host: "peers", Port: "5443", Resolver: n}
		began := time.Now()
		if got := d.Peers(t.Context()); len(got) != 0 || time.Since(began) != 2*time.Second {
			t.Errorf("%v after %v", got, time.Since(began))
		}
		began = time.Now()
		time.Sleep(time.Second)
		if got := d.Peers(t.Context()); len(got) != 0 || time.Since(began) != time.Second {
			t.Errorf("%v after %v", got, time.Since(began))
		}
		n.set(0, nil, "10.0.0.1")
		time.Sleep(4 * time.Second)
		d.Peers(t.Context())
		synctest.Wait()
		if got := d.Peers(t.Context()); !slices.Equal(got, []string{"10.0.0.1:5443"}) {
			t.Error(got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		fresh := &fleet.DNS{Host: "peers", Port: "5443", Resolver: n}
		n.set(time.Second, nil, "10.0.0.1")
		began = time.Now()
		if got := fresh.Peers(ctx); len(got) != 0 || time.Since(began) != 0 {
			t.Errorf("a client that has gone got %v after %v", got, time.Since(began))
		}
		time.Sleep(3 * time.Second)
	})
}
