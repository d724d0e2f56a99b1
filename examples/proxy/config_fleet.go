package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pullthrough/pullthrough/rule"
)

// fleetConfig says which replicas share their downloads with this one, and how they reach one another.
type fleetConfig struct {
	position
	listen   word
	self     secretConfig // value or env
	peers    []word
	named    position // of peers
	dns      word
	secret   secretConfig
	tls      fleetTLSConfig
	copies   word
	least    int64
	insecure bool
	plain    position // of insecure
	faulty   bool     // a mistake was noted when it was read
}

// fleetTLSConfig names the files with which replicas prove themselves to one another.
type fleetTLSConfig struct {
	tlsConfig
	ca, name word
}

// given reports whether the section is in the file.
func (f fleetConfig) given() bool { return f.line != 0 }

// Values of fleet.copies.
const (
	copiesByEach  = "each"
	copiesByOwner = "owner"
)

// read returns the read of the fleet section.
func (f *fleetConfig) read(r reader) read {
	return func(n *yaml.Node, pos position) {
		f.position = pos
		before := r.count()
		r.fields(n, pos, map[string]read{
			"listen":   r.address(&f.listen),
			"self":     f.readSelf(r),
			"peers":    f.readPeers(r),
			"dns":      r.word(&f.dns),
			"secret":   f.secret.readKept(r),
			"tls":      f.tls.read(r),
			"copies":   r.among(r.word(&f.copies), copiesByOwner, copiesByEach),
			"least":    r.bytes(&f.least),
			"insecure": f.readInsecure(r),
		})
		if r.sketch != nil || resolve(n).Kind == yaml.MappingNode {
			r.require(pos, "listen", f.listen)
			r.requireGiven(pos, "self", f.self.line != 0)
		}
		f.faulty = r.count() > before
	}
}

// readSelf returns the read of self: a text, or the variable that has it.
func (f *fleetConfig) readSelf(r reader) read {
	return func(n *yaml.Node, pos position) {
		source := func(n *yaml.Node, pos position) {
			f.self.choose(r, n, pos, "value and env", map[string]read{"value": r.word(&f.self.value), "env": r.word(&f.self.env)})
		}
		if r.describes(pos, r.word(nil), source) {
			return
		}
		if resolve(n).Kind == yaml.ScalarNode {
			f.self.position = pos
			r.word(&f.self.value)(n, pos)
			return
		}
		source(n, pos)
	}
}

// readPeers returns the read of the list of replicas.
func (f *fleetConfig) readPeers(r reader) read {
	return func(n *yaml.Node, pos position) {
		f.named = pos
		r.some(r.words(&f.peers), func() int { return len(f.peers) })(n, pos)
	}
}

// readInsecure returns the read of insecure, of which mistakes name the line.
func (f *fleetConfig) readInsecure(r reader) read {
	return func(n *yaml.Node, pos position) {
		f.plain = pos
		r.flag(&f.insecure)(n, pos)
	}
}

// read returns the read of the tls section of a fleet.
func (t *fleetTLSConfig) read(r reader) read {
	return func(n *yaml.Node, pos position) {
		t.position = pos
		r.fields(n, pos, map[string]read{"cert": r.word(&t.cert), "key": r.word(&t.key), "ca": r.word(&t.ca), "name": r.word(&t.name)})
		if r.sketch != nil || resolve(n).Kind == yaml.MappingNode {
			r.require(pos, "cert", t.cert)
			r.require(pos, "key", t.key)
		}
	}
}

// same reports whether two sections are equal, apart from their positions and the content of files.
func (f fleetConfig) same(o fleetConfig) bool {
	text := func(a, b word) bool { return a.text == b.text }
	return f.given() == o.given() && f.listen.text == o.listen.text && f.self.same(o.self) && slices.EqualFunc(f.peers, o.peers, text) && f.dns.text == o.dns.text &&
		f.secret.same(o.secret) && f.tls.cert.text == o.tls.cert.text && f.tls.key.text == o.tls.key.text && f.tls.ca.text == o.tls.ca.text &&
		f.tls.name.text == o.tls.name.text && f.copies.text == o.copies.text && f.least == o.least && f.insecure == o.insecure
}

// fleetSettings is a valid fleet section.
type fleetSettings struct {
	listen, self string
	peers        []string // if nil, dns has them
	dns          string
	secret       string
	tls          *peerTLS // nil for plain HTTP
	least        int64
	insecure     bool
	owner        bool // one replica copies for all
}

// readFleet checks the fleet section, and leaves s.fleet. [settings.readStore] comes before it.
func (s *settings) readFleet(c *config, found *mistakes) {
	f := c.fleet
	s.checkID(c, found)
	if !f.given() || f.faulty {
		return // what does not fit together shows once each key is right
	}
	before := found.count()
	v := &fleetSettings{listen: f.listen.text, least: max(0, f.least), insecure: f.insecure, owner: c.far.line != 0 && f.copies.text != copiesByEach}
	s.checkPeerListener(c, found)
	v.self = f.address(found)
	v.peers, v.dns = f.members(v.self, found)
	v.secret = f.readProof(found)
	v.tls = f.peerTLS(found)
	f.checkProof(found)
	c.checkCopies(found)
	if found.count() == before {
		s.fleet = v
	}
}

// checkID checks the name of the cache, which all replicas of a fleet share.
func (s *settings) checkID(c *config, found *mistakes) {
	switch {
	case c.id.text != "" && (!plainWord(c.id.text) || len(c.id.text) > maxID):
		found.add(c.id.position, "%q is not a name of letters, digits, '.', '_', ':' and '-', of at most %d", c.id.text, maxID)
	case c.fleet.given() && !c.id.given():
		found.add(c.fleet.position, "needs id at the top of the file, the same for all replicas, such as id: %s: it tells a fleet from a loop of caches", "cache.example.com")
	}
}

// maxID is the length of the longest name of a cache.
const maxID = 128

// checkPeerListener notes an address that the fleet cannot have for itself.
func (s *settings) checkPeerListener(c *config, found *mistakes) {
	l := c.fleet.listen
	_, port, err := net.SplitHostPort(l.text)
	if err != nil {
		return // noted when it was read
	}
	if number, err := strconv.Atoi(port); err == nil && number == 0 {
		found.add(l.position, "must have a port that the other replicas know, such as :5443")
		return
	}
	for _, other := range []struct{ key, address string }{{"listen", s.listen}, {"admin", s.admin}} {
		if sameSocket(l.text, other.address) {
			found.add(l.position, "is the address of %s too: replicas have a port of their own, such as :5443", other.key)
		}
	}
}

// sameSocket reports whether two addresses to listen on exclude one another.
func sameSocket(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	return errA == nil && errB == nil && portA == portB && (everywhere(hostA) || everywhere(hostB) || strings.EqualFold(hostA, hostB))
}

// everywhere reports whether a host stands for all addresses of the machine.
func everywhere(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "" || err == nil && a.IsUnspecified()
}

// address returns HOST:PORT of this replica, as the others reach it. The port of listen is
// that of a host without one.
func (f fleetConfig) address(found *mistakes) string {
	secret := f.self.secret(nil, word{}, found)
	if secret == nil {
		return "" // noted when it was read
	}
	text, _, err := secret.Read(context.Background())
	if err != nil {
		found.add(f.self.position, "%s", plain(err))
		return ""
	}
	self, err := f.member(text.Reveal())
	if err != nil {
		found.add(f.self.position, "%v", err)
		return ""
	}
	host, _, _ := net.SplitHostPort(self)
	if everywhere(host) {
		found.add(f.self.position, "%q is no address that the other replicas could reach: write that of this machine, such as 10.0.0.7:5443 or {env: POD_IP}", text.Reveal())
		return ""
	}
	return self
}

// member returns HOST:PORT of a replica. The port of listen is that of a host without one.
func (f fleetConfig) member(text string) (string, error) {
	host, port, err := net.SplitHostPort(text)
	if _, bare := netip.ParseAddr(text); bare == nil || !strings.Contains(text, ":") {
		_, port, err = net.SplitHostPort(f.listen.text)
		if host = text; err != nil {
			return host, nil // what is wrong with listen is noted
		}
	}
	if number, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || number == 0 {
		return "", fmt.Errorf("%q is no address such as 10.0.0.7:5443", text)
	}
	if _, err := netip.ParseAddr(host); err != nil {
		if name, err := rule.CanonicalHost(host); host != "" && (err != nil || !strings.EqualFold(name, host)) {
			return "", fmt.Errorf("%q is no address such as 10.0.0.7:5443", text)
		}
	}
	return net.JoinHostPort(host, port), nil
}

// members returns the replicas, or the name that leads to them. self is among those of a list.
func (f fleetConfig) members(self string, found *mistakes) (peers []string, dns string) {
	switch {
	case f.dns.given() && f.named.line != 0:
		found.add(f.dns.position, "excludes peers: replicas are found in one way")
		return nil, ""
	case f.dns.given():
		return nil, f.name(self, found)
	case f.named.line == 0:
		found.add(f.position, "needs peers, a list with the address of each replica, or dns, the name of all of them")
		return nil, ""
	}
	lines := map[string]int{}
	for _, w := range f.peers {
		if w.text == "" {
			continue // noted when it was read
		}
		peer, err := f.member(w.text)
		switch {
		case err != nil:
			found.add(w.position, "%v", err)
		case lines[peer] != 0:
			found.add(w.position, "%q is given in line %d already", w.text, lines[peer])
		default:
			lines[peer] = w.line
			peers = append(peers, peer)
		}
	}
	if self != "" && len(peers) == len(f.peers) && !slices.Contains(peers, self) {
		hint := "write each replica as the others reach it, this one too"
		if near, _ := nearest(self, peers); near != "" {
			hint = "did you mean " + near + "?"
		}
		found.add(f.named, "do not have self, %s; %s", self, hint)
	}
	return peers, ""
}

// name checks dns.
func (f fleetConfig) name(self string, found *mistakes) string {
	if f.dns.text == "" {
		return "" // noted when it was read
	}
	if host, _, _ := net.SplitHostPort(self); self != "" {
		if _, err := netip.ParseAddr(host); err != nil {
			found.add(f.self.position, "%q is a name, and dns finds addresses: write the address of this replica, such as {env: POD_IP}", host)
		}
	}
	if _, err := netip.ParseAddr(f.dns.text); err == nil {
		found.add(f.dns.position, "%q is an address, and dns wants a name with the addresses of all replicas; did you mean peers?", f.dns.text)
		return ""
	}
	name, err := rule.CanonicalHost(f.dns.text)
	if err != nil || strings.ContainsAny(name, ":/") {
		found.add(f.dns.position, "%q is not a name such as pullthrough-peers.default.svc; the port is that of self", f.dns.text)
		return ""
	}
	return f.dns.text
}

// checkCopies checks who copies.
func (c *config) checkCopies(found *mistakes) {
	switch f := c.fleet; f.copies.text {
	case "", copiesByEach:
	case copiesByOwner:
		if c.far.line == 0 {
			found.add(f.copies.position, "owner needs far, a bucket that all replicas share; with a store of its own, each replica copies: give far, or write each")
		}
	default:
		found.add(f.copies.position, "%q is neither owner nor each", f.copies.text)
	}
}
