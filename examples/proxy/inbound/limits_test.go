package inbound_test

import (
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/proxy/inbound"
)

// TestRequestsOfAnAddress: an address that asks too often gets 429 and when to come back; others do not.
func TestRequestsOfAnAddress(t *testing.T) {
	s := newSite(t, &inbound.Gate{Proxies: loopback, Requests: inbound.Rate{Count: 4, Per: time.Hour}}, func(s *site) { s.policy = nil })
	for range 4 {
		s.want("/v2/team/app/manifests/v1", from("192.0.2.1", nobody), 200)
	}
	for _, path := range []string{"/v2/team/app/manifests/v1", "/v2/", "/token", "/v2/_catalog"} {
		a := s.want(path, from("192.0.2.1", nobody), 429, `"code":"TOOMANYREQUESTS"`, "too many requests from this address")
		if seconds, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || seconds < 800 || seconds > 900 {
			t.Errorf("Retry-After is %q", a.header.Get("Retry-After"))
		}
	}
	s.want("/v2/team/app/manifests/v1", from("192.0.2.2", nobody), 200)
	s.mu.Lock()
	defer s.mu.Unlock()
	limited := 0
	for _, o := range s.outcomes {
		if o.Status == 429 {
			limited++
		}
	}
	if limited != 4 {
		t.Errorf("%d outcomes are 429, want 4: %+v", limited, s.outcomes)
	}
}

// TestRequestsOfAUser: a user that asks too often gets 429 from every address, whatever he shows; others do not.
func TestRequestsOfAUser(t *testing.T) {
	s := newSite(t, &inbound.Gate{Proxies: loopback, UserRequests: inbound.Rate{Count: 4, Per: time.Hour}}, nil)
	alice := basic("alice", alicePassword)
	token := bearer(s.get(from("192.0.2.1", alice), pull("team/app")).Token)
	s.want("/v2/", from("192.0.2.2", alice), 200)
	s.want("/v2/team/app/manifests/v1", from("192.0.2.3", token), 200)
	s.want("/v2/_catalog", from("192.0.2.3", alice), 200)
	for path, by := range map[string]proof{"/v2/team/app/manifests/v1": token, "/v2/": alice, "/token": alice, "/v2/_catalog": alice} {
		a := s.want(path, from("192.0.2.4", by), 429, "too many requests of user:alice")
		if a.header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", path)
		}
	}
	s.want("/v2/", from("192.0.2.4", basic("carol", carolPassword)), 200)
	s.want("/v2/", from("192.0.2.4", nobody), 401)
}

// ask sends a request on a connection, and reads the begin of its answer.
func ask(conn net.Conn) error {
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n") // the answer tells whether it came
	_, err := io.ReadFull(conn, make([]byte, 15))
	return err
}

// TestConnections: one connection too many is closed at once; those that there are go on, and when one ends there is
// room again.
func TestConnections(t *testing.T) {
	for name, c := range map[string]struct {
		connections *inbound.Connections
		most        int
	}{
		"in all":          {&inbound.Connections{Most: 2}, 2},
		"of an address":   {&inbound.Connections{Most: 9, PerAddress: 3}, 3},
		"of a proxy":      {&inbound.Connections{Most: 4, PerAddress: 1, Proxies: loopback}, 4},
		"without a limit": {&inbound.Connections{}, 20},
	} {
		t.Run(name, func(t *testing.T) {
			plain, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			limits := c.connections
			server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })}
			go server.Serve(limits.Listen(plain))
			defer server.Close()
			dial := func() net.Conn {
				conn, err := net.Dial("tcp", plain.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { conn.Close() })
				return conn
			}
			var open []net.Conn
			for range c.most {
				conn := dial()
				if err := ask(conn); err != nil {
					t.Fatalf("connection %d: %v", len(open)+1, err)
				}
				open = append(open, conn)
			}
			if name == "without a limit" {
				return
			}
			for range 3 {
				if err := ask(dial()); err == nil {
					t.Error("one connection too many is answered")
				}
			}
			for _, conn := range open {
				if err := ask(conn); err != nil {
					t.Errorf("a connection that was there: %v", err)
				}
			}
			open[0].Close()
			for deadline := time.Now().Add(20 * time.Second); ask(dial()) != nil; {
				if time.Now().After(deadline) {
					t.Fatal("there is no room after a connection has ended")
				}
			}
		})
	}
}

// TestConnectionsSendFiles: a connection that counts is one that the kernel can send files to.
func TestConnectionsSendFiles(t *testing.T) {
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	l := (&inbound.Connections{Most: 1}).Listen(plain)
	client, err := net.Dial("tcp", plain.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, ok := conn.(io.ReaderFrom); !ok {
		t.Errorf("%T reads from no file", conn)
	}
}

// TestBodiesAreBounded: a body that is never needed costs nothing.
func TestBodiesAreBounded(t *testing.T) {
	var read int64
	gate := &inbound.Gate{MaxBody: 1 << 10}
	h := gate.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		read, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNoContent)
	}))
	s := &site{t: t, gate: gate}
	s.server = newServer(t, h)
	r, err := http.NewRequestWithContext(t.Context(), "PUT", s.server.URL+"/v2/x/manifests/v1", strings.NewReader(strings.Repeat("x", 1<<20)))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.server.Client().Do(r)
	if err == nil {
		resp.Body.Close()
	}
	if read > 1<<10 {
		t.Errorf("%d bytes of a body were read", read)
	}
}

// wantList fails unless a request gets this list of repositories, and this Link.
func (s *site) wantList(path string, by proof, want, next string) {
	s.t.Helper()
	a := s.want(path, by, 200)
	if got := strings.TrimSpace(a.body); got != `{"repositories":[`+want+`]}` {
		s.t.Errorf("%s: %s, want %s", path, got, want)
	}
	if link := a.header.Get("Link"); link != next {
		s.t.Errorf("%s: Link is %q, want %q", path, link, next)
	}
}

// TestCatalog: a list of repositories has those that one may read, page by page.
func TestCatalog(t *testing.T) {
	s := newSite(t, &inbound.Gate{}, func(s *site) {
		s.policy.Users[0].Pull = inbound.Patterns{"team/*", "hub/library/*"}
		s.policy.Tokens = append(s.policy.Tokens, inbound.Token{
			Grant: inbound.Grant{Name: "blind"}, Secret: auth.Value{Text: auth.NewSensitive("a-token-that-opens-nothing")},
		})
	})
	carol, alice := basic("carol", carolPassword), basic("alice", alicePassword)
	for name := range s.images {
		local := name
		if name == "library/alpine" {
			local = "hub/" + name
		}
		for _, path := range s.reads(local, name) {
			s.want(path, carol, 200)
		}
	}
	if err := s.cache.Idle(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := `"hub/library/alpine","secret/plan","team/app","team/tool"`
	mine := `"hub/library/alpine","team/app","team/tool"`
	catalog := bearer(s.get(alice, "registry:catalog:*").Token)
	s.wantList("/v2/_catalog", carol, all, "")
	for _, by := range []proof{alice, catalog} {
		s.wantList("/v2/_catalog", by, mine, "")
		s.wantList("/v2/_catal%6Fg?n=100", by, mine, "")
		s.wantList("/v2/_catalog?n=2", by, `"hub/library/alpine","team/app"`, `</v2/_catalog?last=team%2Fapp&n=2>; rel="next"`)
		s.wantList("/v2/_catalog?n=2&last=team/app", by, `"team/tool"`, "")
		s.wantList("/v2/_catalog?n=1", by, `"hub/library/alpine"`, `</v2/_catalog?last=hub%2Flibrary%2Falpine&n=1>; rel="next"`)
		s.wantList("/v2/_catalog?last=zzz", by, "", "")
	}
	s.want("/v2/_catalog?n=x", alice, 400)
	s.want("/v2/_catalog?n=-1", alice, 400)
	s.want("/v2/_catalog", bearer(ciToken), 200, `["team/app","team/tool"]`)
	s.want("/v2/_catalog", bearer("a-token-that-opens-nothing"), 403)
	s.want("/v2/_catalog", basic("bob", bobPassword), 403)
	s.want("/v2/_catalog", nobody, 401)
	a := s.want("/v2/_catalog", bearer(s.get(alice, pull("team/app")).Token), 401)
	if got := a.header.Get("WWW-Authenticate"); !strings.Contains(got, `scope="registry:catalog:*",error="insufficient_scope"`) {
		t.Errorf("the challenge is %s", got)
	}
	for _, path := range []string{"//v2/_catalog", "/v2//_catalog", "/v2/_catalog/", "/v2/_CATALOG", "POST /v2/_catalog"} {
		if a := s.do(path, alice); strings.Contains(a.body, "secret") || a.status < 400 {
			t.Errorf("%s: status %d: %s", path, a.status, a.body)
		}
	}
	// What the gate answers by itself is observed, too.
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := map[cache.AccessKind]int{}
	for _, o := range s.outcomes {
		seen[o.Access.Kind]++
	}
	if seen[inbound.AccessToken] != 2 || seen[cache.AccessCatalog] < 20 {
		t.Errorf("observed: %v", seen)
	}
}
