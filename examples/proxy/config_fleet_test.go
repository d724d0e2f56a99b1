package main

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// peerSecret is the secret of fleets in tests.
const peerSecret = "a-secret-of-replicas-that-is-in-no-log"

// fleetOf is a valid file with a fleet of two, of which more keys are in line 3 and on.
func fleetOf(keys ...string) string {
	return "id: cache.example.com\nfleet:\n  " + strings.Join(keys, "\n  ") + "\n"
}

// The keys of a fleet.
const (
	fleetListen = "listen: 127.0.0.1:5443"
	fleetSelf   = "self: 10.0.0.7:5443"
	fleetPeers  = "peers: [10.0.0.7:5443, 10.0.0.8:5443]"
	fleetSecret = "secret: {value: " + peerSecret + "}"
	fleetPlain  = "insecure: true"
)

// TestFleetMistakes has a row for each mistake of a fleet.
func TestFleetMistakes(t *testing.T) {
	t.Setenv("EMPTY_IP", "")
	t.Setenv("POD_IP", "10.0.0.9")
	for _, test := range []struct{ name, file, want string }{
		{"no id", strings.TrimPrefix(fleetOf(fleetListen, fleetSelf, fleetPeers, fleetSecret, fleetPlain), "id: cache.example.com\n"), "1: fleet: needs id at the top of the file, the same for all replicas, such as id: cache.example.com"},
		{"an id", "id: a, b\n", `1: id: "a, b" is not a name of letters, digits,`},
		{"an empty id", "id:\n", "1: id: is empty"},
		{"no keys", "id: a\nfleet: 10.0.0.7\n", "2: fleet: wants keys with values, not a single value"},
		{"misspelt", fleetOf(fleetListen, fleetSelf, fleetPeers, fleetSecret, "insecur: true"), "7: fleet.insecur: unknown key; did you mean insecure?"},
		{"no listen", fleetOf(fleetSelf, fleetPeers, fleetSecret, fleetPlain), "2: fleet: listen is missing"},
		{"no self", fleetOf(fleetListen, fleetPeers, fleetSecret, fleetPlain), "2: fleet: self is missing"},
		{"no port", fleetOf("listen: 127.0.0.1:0", fleetSelf, fleetPeers, fleetSecret, fleetPlain), "3: fleet.listen: must have a port that the other replicas know, such as :5443"},
		{"the address of clients", fleetOf("listen: :5000", fleetSelf, fleetPeers, fleetSecret, fleetPlain), "3: fleet.listen: is the address of listen too: replicas have a port of their own"},
		{"the admin address", "admin: 127.0.0.1:5443\n" + fleetOf(fleetListen, fleetSelf, fleetPeers, fleetSecret, fleetPlain), "4: fleet.listen: is the address of admin too"},
		{"self everywhere", fleetOf(fleetListen, "self: 0.0.0.0:5443", "dns: peers.example.com", fleetSecret, fleetPlain), `4: fleet.self: "0.0.0.0:5443" is no address that the other replicas could reach: write that of this machine, such as 10.0.0.7:5443 or {env: POD_IP}`},
		{"self without a variable", fleetOf(fleetListen, "self: {env: EMPTY_IP}", fleetPeers, fleetSecret, fleetPlain), "4: fleet.self: environment variable EMPTY_IP is not set"},
		{"self twice", fleetOf(fleetListen, "self: {env: POD_IP, value: a}", fleetPeers, fleetSecret, fleetPlain), "4: fleet.self: wants exactly one of value and env"},
		{"self with a path", fleetOf(fleetListen, "self: http://a/b", fleetPeers, fleetSecret, fleetPlain), `4: fleet.self: "http://a/b" is no address such as 10.0.0.7:5443`},
		{"self with a port of a word", fleetOf(fleetListen, "self: a:https", fleetPeers, fleetSecret, fleetPlain), `4: fleet.self: "a:https" is no address such as`},
		{"self is no peer", fleetOf(fleetListen, "self: 10.0.0.7:5444", fleetPeers, fleetSecret, fleetPlain), "5: fleet.peers: do not have self, 10.0.0.7:5444; did you mean 10.0.0.7:5443?"},
		{"self is no peer at all", fleetOf(fleetListen, "self: one.example.com", fleetPeers, fleetSecret, fleetPlain), "5: fleet.peers: do not have self, one.example.com:5443; write each replica as the others reach it, this one too"},
		{"a peer", fleetOf(fleetListen, fleetSelf, "peers: [10.0.0.7, 'a b']", fleetSecret, fleetPlain), `5: fleet.peers[1]: "a b" is no address such as`},
		{"a peer twice", fleetOf(fleetListen, fleetSelf, "peers: [10.0.0.7, 10.0.0.7:5443]", fleetSecret, fleetPlain), `5: fleet.peers[1]: "10.0.0.7:5443" is given in line 5 already`},
		{"no peers", fleetOf(fleetListen, fleetSelf, "peers: []", fleetSecret, fleetPlain), "5: fleet.peers: is empty"},
		{"neither peers nor dns", fleetOf(fleetListen, fleetSelf, fleetSecret, fleetPlain), "2: fleet: needs peers, a list with the address of each replica, or dns, the name of all of them"},
		{"peers and dns", fleetOf(fleetListen, fleetSelf, fleetPeers, "dns: peers.example.com", fleetSecret, fleetPlain), "6: fleet.dns: excludes peers: replicas are found in one way"},
		{"dns with an address", fleetOf(fleetListen, fleetSelf, "dns: 10.0.0.8", fleetSecret, fleetPlain), `5: fleet.dns: "10.0.0.8" is an address, and dns wants a name with the addresses of all replicas; did you mean peers?`},
		{"dns with a port", fleetOf(fleetListen, fleetSelf, "dns: peers.example.com:5443", fleetSecret, fleetPlain), `5: fleet.dns: "peers.example.com:5443" is not a name such as`},
		{"dns and the name of self", fleetOf(fleetListen, "self: one.example.com:5443", "dns: peers.example.com", fleetSecret, fleetPlain), `4: fleet.self: "one.example.com" is a name, and dns finds addresses`},
		{"no proof", fleetOf(fleetListen, fleetSelf, fleetPeers, fleetPlain), "2: fleet: needs secret, or tls with a ca: without one of them, anyone who reaches 127.0.0.1:5443 could read every blob"},
		{"TLS without a ca is no proof", fleetOf(fleetListen, fleetSelf, fleetPeers, "tls: {cert: cert.pem, key: key.pem}"), "2: fleet: needs secret, or tls with a ca"},
		{"a short secret", fleetOf(fleetListen, fleetSelf, fleetPeers, "secret: {value: fifteen-letters}", fleetPlain), "6: fleet.secret: has 15 characters and could be guessed; it needs 16 at least, such as those of: openssl rand -hex 32"},
		{"blanks in the secret", fleetOf(fleetListen, fleetSelf, fleetPeers, "secret: {value: a secret with blanks in it}", fleetPlain), "6: fleet.secret: has a blank or a character beyond ASCII in it"},
		{"no file of the secret", fleetOf(fleetListen, fleetSelf, fleetPeers, "secret: {file: nowhere}", fleetPlain), "6: fleet.secret: "},
		{"a secret as a text", fleetOf(fleetListen, fleetSelf, fleetPeers, "secret: abcdefghijklmnop", fleetPlain), "6: fleet.secret: wants keys with values, not a single value"},
		{"no TLS", fleetOf(fleetListen, fleetSelf, fleetPeers, fleetSecret), "2: fleet: needs tls: without it, the secret and all content can be read on their way; write insecure: true if"},
		{"insecure is false", fleetOf(fleetListen, fleetSelf, fleetPeers, fleetSecret, "insecure: false"), "2: fleet: needs tls"},
		{"TLS and insecure", fleetOf(fleetListen, fleetSelf, fleetPeers, fleetSecret, "tls: {cert: cert.pem, key: key.pem}", fleetPlain), "8: fleet.insecure: contradicts tls: remove one of them"},
		{"half a certificate", fleetOf(fleetListen, fleetSelf, fleetPeers, fleetSecret, "tls: {cert: cert.pem}"), "7: fleet.tls: key is missing"},
		{"no certificate", fleetOf(fleetListen, fleetSelf, fleetPeers, fleetSecret, "tls: {cert: nowhere.pem, key: nowhere.pem}"), "7: fleet.tls: open nowhere.pem"},
		{"no authority", fleetOf(fleetListen, fleetSelf, fleetPeers, "tls: {cert: cert.pem, key: key.pem, ca: key.pem}"), "6: fleet.tls.ca: key.pem has no certificate in PEM form"},
		{"copies", fleetOf(fleetListen, fleetSelf, fleetPeers, fleetSecret, fleetPlain, "copies: all"), `8: fleet.copies: "all" is neither owner nor each`},
		{"an owner without a shared store", fleetOf(fleetListen, fleetSelf, fleetPeers, fleetSecret, fleetPlain, "copies: owner"), "8: fleet.copies: owner needs far, a bucket that all replicas share"},
		{"least", fleetOf(fleetListen, fleetSelf, fleetPeers, fleetSecret, fleetPlain, "least: much"), `8: fleet.least: "much" is not a number of bytes`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			writeCertificate(t, "cert.pem", "key.pem")
			said := mistakesOf(t, test.file)
			if !strings.Contains(said, test.want) || strings.Contains(said, "\n") {
				t.Errorf("got:\n%s\nwant one mistake with %q", said, test.want)
			}
			if strings.Contains(said, peerSecret) || strings.Contains(said, "fifteen-letters") {
				t.Errorf("a secret was told: %s", said)
			}
			wantRefusedBySchema(t, test.file, said)
		})
	}
}

// TestFleetIsRead: what the file says reaches the library.
func TestFleetIsRead(t *testing.T) {
	t.Chdir(t.TempDir())
	writeCertificate(t, "cert.pem", "key.pem")
	writeText(t, "secret", peerSecret+"\n")
	t.Setenv("POD_IP", "fd00::7")
	log := slog.New(slog.DiscardHandler)
	for _, test := range []struct {
		name, file string
		self       string
		peers      []string
		shown      string
	}{
		{"addresses", fleetOf(fleetListen, fleetSelf, fleetPeers, "secret: {file: secret}", fleetPlain, "least: 64KiB"), "10.0.0.7:5443", []string{"10.0.0.7:5443", "10.0.0.8:5443"}, "secret"},
		{"the port of listen", fleetOf(fleetListen, "self: 10.0.0.7", "peers: [10.0.0.8, 10.0.0.7, two.example.com, 10.0.0.9:6443]", fleetSecret, fleetPlain), "10.0.0.7:5443",
			[]string{"10.0.0.8:5443", "10.0.0.7:5443", "two.example.com:5443", "10.0.0.9:6443"}, "secret"},
		{"a variable", fleetOf(fleetListen, "self: {env: POD_IP}", "peers: ['fd00::7', '[fd00::8]:5443']", "tls: {cert: cert.pem, key: key.pem, ca: cert.pem}"), "[fd00::7]:5443", []string{"[fd00::7]:5443", "[fd00::8]:5443"}, "certificate"},
		{"both proofs", fleetOf(fleetListen, fleetSelf, fleetPeers, fleetSecret, "tls: {cert: cert.pem, key: key.pem, ca: cert.pem, name: peers}", "copies: each"), "10.0.0.7:5443", []string{"10.0.0.7:5443", "10.0.0.8:5443"}, "both"},
		{"a name", fleetOf(fleetListen, fleetSelf, "dns: peers.pullthrough.svc", fleetSecret, "tls: {cert: cert.pem, key: key.pem}"), "10.0.0.7:5443", nil, "secret"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := built(t, test.file)
			r, err := s.newReplica(log)
			if err != nil {
				t.Fatal(err)
			}
			if r.Self != test.self {
				t.Errorf("self is %q, want %q", r.Self, test.self)
			}
			if test.peers != nil {
				if got := strings.Join(r.Peers(t.Context()), " "); got != strings.Join(test.peers, " ") {
					t.Errorf("the peers are %q, want %q", got, test.peers)
				}
			}
			if secret, trust := string(r.Secret) == peerSecret, r.Trust != nil; secret != (test.shown != "certificate") || trust != (test.shown != "secret") {
				t.Errorf("a secret: %t, certificates: %t, want %s", secret, trust, test.shown)
			}
			if (r.TLS == nil) != r.Insecure {
				t.Errorf("TLS is %v, insecure %t", r.TLS, r.Insecure)
			}
			if test.name == "addresses" && r.Least != 64<<10 {
				t.Errorf("least is %d", r.Least)
			}
		})
	}
}

// TestFleetNeedsRestart: no key of a fleet changes while the proxy runs, but for the content of files.
func TestFleetNeedsRestart(t *testing.T) {
	t.Chdir(t.TempDir())
	writeCertificate(t, "cert.pem", "key.pem")
	t.Setenv("POD_IP", "10.0.0.7")
	base := []string{fleetListen, fleetSelf, fleetPeers, fleetSecret, fleetPlain}
	for _, test := range []struct{ name, before, after, want string }{
		{"a fleet", "id: cache.example.com\n", fleetOf(base...), "fleet"},
		{"no fleet", fleetOf(base...), "", "id, fleet"},
		{"id", fleetOf(base...), strings.Replace(fleetOf(base...), "id: cache", "id: images", 1), "id"},
		{"listen", fleetOf(base...), strings.Replace(fleetOf(base...), "127.0.0.1:5443", "127.0.0.1:6443", 1), "fleet"},
		{"peers", fleetOf(base...), strings.Replace(fleetOf(base...), "10.0.0.8", "10.0.0.9", 1), "fleet"},
		{"self", fleetOf(base...), strings.Replace(fleetOf(base...), fleetSelf, "self: {env: POD_IP}", 1), "fleet"},
		{"the secret", fleetOf(base...), strings.Replace(fleetOf(base...), peerSecret, strings.ToUpper(peerSecret), 1), "fleet"},
		{"TLS", fleetOf(base...), strings.Replace(fleetOf(base...), fleetPlain, "tls: {cert: cert.pem, key: key.pem}", 1), "fleet"},
		{"copies", fleetOf(base...), fleetOf(append(base, "copies: each")...), "fleet"},
		{"least", fleetOf(base...), fleetOf(append(base, "least: 1KiB")...), "fleet"},
		{"lines", fleetOf(base...), "# later\n" + fleetOf(fleetPlain, fleetSecret, fleetPeers, fleetSelf, fleetListen), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := strings.Join(built(t, test.before).fixed(built(t, test.after)), ", "); got != test.want {
				t.Errorf("keys %q, want %q", got, test.want)
			}
		})
	}
}

// TestPeerCertificates: replicas prove themselves by certificates in both directions, with what
// the files have at that moment, and a certificate for another name proves nothing.
func TestPeerCertificates(t *testing.T) {
	t.Chdir(t.TempDir())
	writeCertificate(t, "cert.pem", "key.pem", "peers")
	r, err := built(t, fleetOf(fleetListen, fleetSelf, fleetPeers, "tls: {cert: cert.pem, key: key.pem, ca: cert.pem, name: peers}")).newReplica(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !r.Trust(req) || req.ProtoMajor != 1 {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	server.TLS = r.settings.tls.server()
	server.StartTLS()
	defer server.Close()
	ask := func(by http.RoundTripper) int {
		t.Helper()
		resp, err := (&http.Client{Transport: by}).Get(server.URL)
		if err != nil {
			t.Log(err)
			return -1
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	want := func(what string, by http.RoundTripper, want int) {
		t.Helper()
		if got := ask(by); got != want {
			t.Errorf("%s: status %d, want %d", what, got, want)
		}
	}
	want("a replica", r.Transport, 200)
	anonymous := peerTLS{ca: r.settings.tls.ca, name: "peers", pair: &keyPair{}}
	want("without a certificate", httpOf(t, &anonymous), 401)
	writeCertificate(t, "other.pem", "other-key.pem", "others")
	stranger := peerTLS{ca: r.settings.tls.ca, name: "peers", pair: &keyPair{cert: "other.pem", key: "other-key.pem"}}
	want("with a certificate of nobody", stranger.transport(), -1)

	later(t, "cert.pem", func() { writeCertificate(t, "cert.pem", "key.pem", "peers") })
	server.CloseClientConnections()
	want("after all files have changed", r.Transport, 200)
	later(t, "cert.pem", func() { writeText(t, "cert.pem", "no certificate") })
	server.CloseClientConnections()
	want("while a file is wrong", r.Transport, 200)
	later(t, "cert.pem", func() { writeCertificate(t, "cert.pem", "key.pem", "another") })
	server.CloseClientConnections()
	want("with a certificate for another name", r.Transport, -1)
	another := peerTLS{ca: r.settings.tls.ca, name: "another", pair: r.settings.tls.pair}
	want("with one for another name, shown as a client", another.transport(), 401)
}

// httpOf is a transport that shows no certificate.
func httpOf(t *testing.T, p *peerTLS) http.RoundTripper {
	t.Helper()
	config, err := p.client()
	if err != nil {
		t.Fatal(err)
	}
	config.GetClientCertificate = nil
	return &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
}
