package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache/fleet"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook/webhooktest"
)

// group is a fleet of processes.
type group struct {
	*testing.T
	up    *upstreamtest.Registry
	self  []string // addresses for one another
	procs []*process
}

// newGroup starts a fleet of two. Its keys are those of one that trusts a secret, unless more
// has others.
func newGroup(t *testing.T, up *upstreamtest.Registry, more ...string) *group {
	t.Helper()
	g := &group{T: t, up: up, self: []string{freeAddress(t), freeAddress(t)}}
	if len(more) == 0 {
		more = []string{fleetSecret, fleetPlain}
	}
	for _, self := range g.self {
		keys := append([]string{"listen: " + self, "self: " + self, "peers: [" + strings.Join(g.self, ", ") + "]"}, more...)
		g.procs = append(g.procs, startProxy(t, file(up, "admin: 127.0.0.1:0", strings.TrimSuffix(fleetOf(keys...), "\n"))))
	}
	return g
}

// ports counts the ports that freeAddress has tried, from one on that other processes hardly begin with.
var ports = rand.Int64N(10000)

// freeAddress returns an address of this machine that nobody listens on and that it has never returned
// before. Its port is below those that a system gives to listeners that ask for any, so that no other process
// gets it first.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		port := 20000 + atomic.AddInt64(&ports, 1)%10000
		if l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port)); err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

// owner returns the replica that is to fetch a blob, and the other one.
func (g *group) owner(repository string, d digest.Digest) (owner, other *process) {
	if fleet.Rank(g.self, upstream.Source{Rule: "local", Host: g.up.Host(), Repository: repository}, d)[0] == g.self[0] {
		return g.procs[0], g.procs[1]
	}
	return g.procs[1], g.procs[0]
}

// get asks a replica for a blob, and returns the response once its first byte is there.
func (g *group) get(p *process, repository string, d digest.Digest) (first []byte, resp *http.Response) {
	g.Helper()
	resp, err := client().Get(p.url + "/v2/local/" + repository + "/blobs/" + d.String())
	if err != nil {
		g.Fatal(err)
	}
	g.Cleanup(func() { resp.Body.Close() })
	first = make([]byte, 1)
	if _, err := io.ReadFull(resp.Body, first); err != nil || resp.StatusCode != http.StatusOK {
		g.Fatalf("status %d: %v", resp.StatusCode, err)
	}
	return first, resp
}

// wantRest fails unless the rest of a response makes the blob whole.
func (g *group) wantRest(first []byte, resp *http.Response, repository string, d digest.Digest) {
	g.Helper()
	rest, err := io.ReadAll(resp.Body)
	if body := append(first, rest...); err != nil || !bytes.Equal(body, g.up.Blob(repository, d)) {
		g.Errorf("got %d bytes and %v, want the blob", len(body), err)
	}
}

// TestFleetFetchesOnce: an image that is pulled from two replicas comes from the upstream once.
// When one of the two is killed, the other goes on with what that one was fetching.
func TestFleetFetchesOnce(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	img := up.AddImage("team/app", "v1", upstreamtest.Layers(3, 100_000))
	big := up.AddImage("team/big", "v1", upstreamtest.Layers(1, 4<<20))
	many := up.AddImage("team/many", "v1", upstreamtest.Layers(30, 100))
	g := newGroup(t, up)
	for _, p := range g.procs {
		wantImage(t, p.url, img, up)
	}
	for _, d := range append(img.Layers, img.Config) {
		if n := up.Count("GET", "blob", d.Digest.String()); n != 1 {
			t.Errorf("%d GETs of %s, want 1", n, d.Digest)
		}
	}

	up.Pace(1 << 17) // half a minute, until the replica that fetches is killed
	layer := big.Layers[0].Digest
	owner, other := g.owner("team/big", layer)
	first, resp := g.get(other, "team/big", layer)
	if n := up.Count("GET", "blob", layer.String()); n != 1 {
		t.Errorf("%d GETs of the large layer, want 1", n)
	}
	g.wantShown(owner, "upstream", layer)
	g.wantShown(other, "127.0.0.1:", layer)
	if err := owner.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-owner.done
	up.Pace(0)
	g.wantRest(first, resp, "team/big", layer)
	if sent := up.BlobBytes(layer); sent > 2*big.Layers[0].Size {
		t.Errorf("the upstream sent %d bytes of a layer of %d", sent, big.Layers[0].Size)
	}
	wantImage(t, other.url, img, up)
	wantImage(t, other.url, many, up) // some of its blobs would be fetched by the one that is gone
	if status, body := fetch(t, client(), "http://"+adminOf(t, other)+"/readyz"); status != http.StatusOK {
		t.Errorf("a dead replica makes the other one not ready: %d %s", status, body)
	}
	g.wantMetric(other, "pullthrough_fleet_members 2")
	g.wantMetric(other, "pullthrough_fleet_dead_members 1")
	other.signal(t)
	other.wantExit(t, exitOK)
}

// wantShown fails unless the command fleet lists both replicas, and where a blob comes from.
func (g *group) wantShown(p *process, from string, d digest.Digest) {
	g.Helper()
	var stdout, stderr bytes.Buffer
	if code := run(g.Context(), nil, []string{"fleet", "-admin", adminOf(g.T, p)}, &stdout, &stderr); code != exitOK {
		g.Fatalf("exit code %d: %s", code, &stderr)
	}
	for _, want := range []string{g.self[0], g.self[1], "this one", d.String() + "  local  " + g.up.Host() + "/team/big  " + from, "1 blobs under way"} {
		if !strings.Contains(stdout.String(), want) {
			g.Errorf("%q is not in\n%s", want, &stdout)
		}
	}
}

// wantMetric fails unless /metrics has a line.
func (g *group) wantMetric(p *process, line string) {
	g.Helper()
	if _, body := fetch(g.T, client(), "http://"+adminOf(g.T, p)+"/metrics"); !strings.Contains(string(body), line+"\n") {
		g.Errorf("%s is not in /metrics", line)
	}
}

// TestFleetLeavesInOrder: a replica that gets SIGTERM while another one follows it sends what it
// has begun to the end. The other one asks the upstream for nothing.
func TestFleetLeavesInOrder(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	img := up.AddImage("team/app", "v1", upstreamtest.Layers(1, 2<<20))
	g := newGroup(t, up)
	layer := img.Layers[0].Digest
	owner, other := g.owner("team/app", layer)
	up.Pace(1 << 17) // sixteen seconds, until all that needs the replica was seen
	first, resp := g.get(other, "team/app", layer)
	owner.signal(t)
	owner.until(t, "new clients to be refused", func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(owner.url, "http://"))
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	at := g.self[slices.Index(g.procs, owner)]
	if status, _ := g.asReplica(at, "/fleet/v1/local/team/other/blobs/"+layer.String(), "Bearer "+peerSecret); status != http.StatusServiceUnavailable {
		t.Errorf("a replica that leaves answers %d to what is new, want 503", status)
	}
	up.Pace(0)
	g.wantRest(first, resp, "team/app", layer)
	if n := up.Count("GET", "blob", layer.String()); n != 1 {
		t.Errorf("%d GETs of the layer, want 1: the replica that ended cut the other one off", n)
	}
	owner.wantExit(t, exitOK)
	if log := owner.log.String(); strings.Contains(log, "were cut off") {
		t.Error("a response was cut off")
	}
}

// TestFleetRefusesStrangers: who is no replica reads nothing at their address, and the log holds
// no secret.
func TestFleetRefusesStrangers(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	img := up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1000))
	g := newGroup(t, up)
	wantImage(t, g.procs[0].url, img, up)
	layer := img.Layers[0].Digest.String()
	for _, test := range []struct {
		name, path, proof string
		status            int
	}{
		{"no secret", "/fleet/v1/local/team/app/blobs/" + layer, "", 401},
		{"another secret", "/fleet/v1/local/team/app/blobs/" + layer, "Bearer " + strings.ToUpper(peerSecret), 401},
		{"the secret of a user", "/fleet/v1/local/team/app/blobs/" + layer, "Basic " + peerSecret, 401},
		{"a client", "/v2/local/team/app/blobs/" + layer, "", 401},
		{"a replica that asks as a client does", "/v2/local/team/app/blobs/" + layer, "Bearer " + peerSecret, 404},
		{"a replica", "/fleet/v1/ping", "Bearer " + peerSecret, 204},
		{"a replica of another rule", "/fleet/v1/other/team/app/blobs/" + layer, "Bearer " + peerSecret, 404},
	} {
		status, body := g.asReplica(g.self[0], test.path, test.proof)
		if status != test.status || status == 401 && len(body) > 0 {
			t.Errorf("%s: status %d, want %d: %q", test.name, status, test.status, body)
		}
	}
	g.wantMetric(g.procs[0], "pullthrough_fleet_strangers_total 4")
	for _, p := range g.procs {
		p.signal(t)
		p.wantExit(t, exitOK)
		if strings.Contains(p.log.String(), peerSecret) {
			t.Error("the secret was told")
		}
	}
}

// asReplica sends a request to the address for replicas, as one of them does, with some proof.
func (g *group) asReplica(address, path, proof string) (status int, body []byte) {
	g.Helper()
	req, err := http.NewRequestWithContext(g.Context(), "GET", "http://"+address+path, nil)
	if err != nil {
		g.Fatal(err)
	}
	req.Header.Set("Authorization", proof)
	req.Header.Set("Pullthrough-Peer", g.self[1])
	repository, _, _ := strings.Cut(strings.TrimPrefix(path, "/fleet/v1/local/"), "/blobs/")
	req.Header.Set("Pullthrough-Source", fmt.Sprintf("local %s/%s", g.up.Host(), repository))
	req.Header.Set("Cdn-Loop", "cache.example.com")
	resp, err := client().Do(req)
	if err != nil {
		g.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(resp.Body); err != nil {
		g.Fatal(err)
	}
	return resp.StatusCode, body
}

// TestFleetOverTLS: with certificates as the proof, replicas share their downloads over TLS, and
// who shows none reads nothing.
func TestFleetOverTLS(t *testing.T) {
	up, dir := upstreamtest.NewRegistry(t), t.TempDir()
	img := up.AddImage("team/app", "v1", upstreamtest.Layers(2, 100_000))
	writeCertificate(t, dir+"/cert.pem", dir+"/key.pem")
	g := newGroup(t, up, fmt.Sprintf("tls: {cert: %s/cert.pem, key: %[1]s/key.pem, ca: %[1]s/cert.pem}", dir))
	for _, p := range g.procs {
		wantImage(t, p.url, img, up)
	}
	for _, d := range append(img.Layers, img.Config) {
		if n := up.Count("GET", "blob", d.Digest.String()); n != 1 {
			t.Errorf("%d GETs of %s, want 1", n, d.Digest)
		}
	}
	resp, err := client().Get("http://" + g.self[0] + "/fleet/v1/ping")
	if err == nil {
		resp.Body.Close()
	}
	if err != nil && !errors.Is(err, io.EOF) || err == nil && resp.StatusCode != http.StatusBadRequest {
		t.Errorf("without TLS: %v, %v", resp, err)
	}
}

// TestFleetOnABucket: of replicas with one bucket, one copies an image that both of them serve, and
// its events are sent once.
func TestFleetOnABucket(t *testing.T) {
	up, bucket, hook := upstreamtest.NewRegistry(t), newS3Server(t), webhooktest.New(t)
	img := up.AddImage("team/app", "v1", upstreamtest.Layers(2, 100_000))
	t.Setenv("S3_SECRET", s3Secret)
	g := &group{T: t, up: up, self: []string{freeAddress(t), freeAddress(t)}}
	for _, self := range g.self {
		keys := []string{"listen: " + self, "self: " + self, "peers: [" + strings.Join(g.self, ", ") + "]", fleetSecret, fleetPlain}
		g.procs = append(g.procs, startProxy(t, file(up, "admin: 127.0.0.1:0", "store: dir:"+t.TempDir(), "far: {"+bucket.keys()+"}",
			"webhooks: [{name: deploy, url: "+hook.URL()+"}]", strings.TrimSuffix(fleetOf(keys...), "\n"))))
	}
	for _, p := range g.procs {
		wantImage(t, p.url, img, up)
	}
	g.procs[0].until(t, "the tag in the bucket", func() bool { return bucket.has("/tags/v1") })
	for _, p := range g.procs {
		p.until(t, "its copies to end", func() bool {
			_, body := fetch(t, client(), "http://"+adminOf(t, p)+"/api/v1/copies")
			return strings.Contains(string(body), `"total":0`)
		})
	}
	for _, p := range g.procs { // when each knows of the end: one that does not would take the copy over
		p.signal(t)
		p.wantExit(t, exitOK)
	}
	for _, d := range append(img.Layers, img.Config) {
		if n := up.Count("GET", "blob", d.Digest.String()); n != 1 {
			t.Errorf("%d GETs of %s, want 1", n, d.Digest)
		}
	}
	if !hook.WantEvents("push local/team/app:v1", "push local/team/app@"+img.Digest.String()) {
		t.Errorf("the events are %+v", hook.Events())
	}
}
