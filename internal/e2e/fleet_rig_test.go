package e2e

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache/fleet"
	"github.com/pullthrough/pullthrough/internal/fakeserver"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// fleetRig is an upstream in this process and replicas as processes of their own.
type fleetRig struct {
	t        *testing.T
	up       *upstreamtest.Registry
	host     string // of the upstream
	replicas []*fleetReplica
}

// fleetReplica is a replica, which may be down.
type fleetReplica struct {
	replicaConfig
	t       *testing.T
	process *process            // nil while it does not run
	inside  func(cmd *exec.Cmd) // if not nil, it says where the process runs
	ready   func(p *process)    // if not nil, it runs between the start of the process and the first request
}

// newFleetRig makes an upstream and n replicas, which know one another and do not run yet.
func newFleetRig(t *testing.T, n int) *fleetRig {
	t.Helper()
	r := newFleetRigAt(t, "127.0.0.1:0")
	for range n {
		r.add(freeAddress(t), freeAddress(t))
	}
	r.know(r.addresses()...)
	return r
}

// newFleetRigAt makes an upstream that listens at an address, and no replica.
func newFleetRigAt(t *testing.T, address string) *fleetRig {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	r := &fleetRig{t: t, up: upstreamtest.NewHandler(), host: l.Addr().String()}
	server := &http.Server{Handler: r.up, ErrorLog: log.New(io.Discard, "", 0)} // cut responses
	go func() { _ = server.Serve(shortListener{l}) }()
	t.Cleanup(func() {
		_ = server.Close()
		r.up.Close()
		for _, c := range r.up.Complaints() {
			t.Errorf("the upstream complains: %s", c)
		}
	})
	return r
}

// shortListener makes connections whose kernel buffers little of what is sent, so that what
// counts as sent has nearly reached the other side.
type shortListener struct{ net.Listener }

// Accept implements [net.Listener].
func (l shortListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetWriteBuffer(128 << 10)
	}
	return c, err
}

// add adds a replica that does not run yet.
func (r *fleetRig) add(clients, self string) *fleetReplica {
	dir := r.t.TempDir()
	p := &fleetReplica{t: r.t, replicaConfig: replicaConfig{
		Clients: clients, Open: clients, Listen: self, Self: self, Upstream: r.host,
		PeersFile: filepath.Join(dir, "peers"), Dir: filepath.Join(dir, "store"),
	}}
	r.replicas = append(r.replicas, p)
	return p
}

// addresses are those of all replicas for one another.
func (r *fleetRig) addresses() (all []string) {
	for _, p := range r.replicas {
		all = append(all, p.Self)
	}
	return all
}

// know tells all replicas who belongs to the fleet.
func (r *fleetRig) know(peers ...string) {
	for _, p := range r.replicas {
		p.know(peers...)
	}
}

// know tells a replica who belongs to the fleet.
func (p *fleetReplica) know(peers ...string) {
	p.t.Helper()
	name := filepath.Base(write(p.t, filepath.Dir(p.PeersFile), "peers.new", strings.Join(peers, "\n")))
	if err := os.Rename(filepath.Join(filepath.Dir(p.PeersFile), name), p.PeersFile); err != nil {
		p.t.Fatal(err)
	}
}

// useTLS gives the replicas certificates, by which they know one another.
func (r *fleetRig) useTLS() {
	r.t.Helper()
	ca, err := fakeserver.NewCA("fleet")
	if err != nil {
		r.t.Fatal(err)
	}
	for _, p := range r.replicas {
		pair, err := ca.Certificate("127.0.0.1", p.Self)
		if err != nil {
			r.t.Fatal(err)
		}
		key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
		if err != nil {
			r.t.Fatal(err)
		}
		p.Cert = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}))
		p.Key = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
		p.CA = string(ca.PEM())
	}
}

// start starts replicas and waits until they answer.
func (r *fleetRig) start(replicas ...*fleetReplica) {
	r.t.Helper()
	var wg sync.WaitGroup
	for _, p := range replicas {
		p.launch()
	}
	for _, p := range replicas {
		wg.Go(func() {
			p.process.until(r.t, "a replica", func() bool {
				_, ok := p.stats()
				return ok
			})
		})
	}
	wg.Wait()
}

// launch starts the process of a replica. It does not outlive the test, even if it is stopped.
func (p *fleetReplica) launch() {
	p.t.Helper()
	config, err := json.Marshal(p.replicaConfig)
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), replicaVariable+"="+string(config))
	if p.inside != nil {
		p.inside(cmd)
	}
	process := startCommand(p.t, cmd)
	p.process = process
	p.t.Cleanup(process.kill)
	if p.ready != nil {
		p.ready(process)
	}
}

// kill ends a replica as SIGKILL does.
func (p *fleetReplica) kill() {
	p.process.kill()
	p.process = nil
}

// signal sends a signal to a replica.
func (p *fleetReplica) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.process.cmd.Process.Signal(s); err != nil {
		p.t.Error(err)
	}
}

// stats asks a replica about itself.
func (p *fleetReplica) stats() (s replicaStats, ok bool) {
	resp, err := fleetClient().Get("http://" + p.Clients + "/stats")
	if err != nil {
		return s, false
	}
	defer resp.Body.Close()
	return s, json.NewDecoder(resp.Body).Decode(&s) == nil
}

// fleetClient is a client that waits long enough for a paced blob, and not for ever.
func fleetClient() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 2 * time.Minute}
}

// pulled is what a client saw of one blob.
type pulled struct {
	replica     int
	first, done time.Duration // until the first byte, and until the end
	gap         time.Duration // the longest wait between two bytes
	size        int64
	sum         string // SHA-256 in hexadecimal
	status      int
	cacheStatus string
	err         error // what ended it, if that was not its clean end
}

// good reports whether a client got the blob.
func (p pulled) good(d digest.Digest) bool {
	return p.status == http.StatusOK && p.err == nil && p.sum == d.Encoded()
}

// wrong reports whether a client believes that it got the blob, and did not.
func (p pulled) wrong(d digest.Digest) bool {
	return p.status == http.StatusOK && p.err == nil && p.sum != d.Encoded()
}

// String says how a pull ended.
func (p pulled) String() string {
	return fmt.Sprintf("replica %d: status %d, %d bytes, %v", p.replica, p.status, p.size, p.err)
}

// pull gets something from a replica as a client does.
func (r *fleetRig) pull(replica int, path string) pulled {
	return r.pullSeen(replica, path, new(atomic.Int64))
}

// pullSeen is pull with the size so far for others to see.
func (r *fleetRig) pullSeen(replica int, path string, size *atomic.Int64) pulled {
	p := pulled{replica: replica}
	begun := time.Now()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, "http://"+r.replicas[replica].Clients+"/v2/mirror/app/"+path, nil)
	if err != nil {
		r.t.Error(err)
		return p
	}
	resp, err := fleetClient().Do(req)
	if err != nil {
		p.err = err
		return p
	}
	defer resp.Body.Close()
	p.status, p.cacheStatus = resp.StatusCode, resp.Header.Get("Cache-Status")
	h := digest.SHA256.Hash()
	for buf, last := make([]byte, 64<<10), begun; ; {
		n, err := resp.Body.Read(buf)
		if now := time.Now(); n > 0 {
			if p.size == 0 {
				p.first = now.Sub(begun)
			} else {
				p.gap = max(p.gap, now.Sub(last))
			}
			last = now
		}
		h.Write(buf[:n])
		p.size += int64(n)
		size.Store(p.size)
		if err == io.EOF {
			break
		} else if err != nil {
			p.err = err
			break
		}
	}
	p.done, p.sum = time.Since(begun), hex.EncodeToString(h.Sum(nil))
	return p
}

// pulls is some clients at once.
type pulls struct {
	r   *fleetRig
	wg  sync.WaitGroup
	mu  sync.Mutex
	all []pulled

	sizes []*atomic.Int64 // of what begin began
}

// begin begins to pull a blob at a replica.
func (p *pulls) begin(replica int, d digest.Digest) {
	size := new(atomic.Int64)
	p.sizes = append(p.sizes, size)
	p.wg.Go(func() {
		got := p.r.pullSeen(replica, "blobs/"+d.String(), size)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.all = append(p.all, got)
	})
}

// least is how many bytes every client has.
func (p *pulls) least() int64 {
	least := p.sizes[0].Load()
	for _, size := range p.sizes {
		least = min(least, size.Load())
	}
	return least
}

// lose waits for the clients so far, and forgets them.
func (p *pulls) lose() {
	p.wg.Wait()
	p.all = nil
}

// wait waits for all clients, and then for the requests to the upstream.
func (p *pulls) wait() []pulled {
	p.wg.Wait()
	p.r.quiet()
	slices.SortFunc(p.all, func(a, b pulled) int { return a.replica - b.replica })
	return p.all
}

// quiet waits until the upstream has no request.
func (r *fleetRig) quiet() {
	r.t.Helper()
	r.until("the upstream has no request", func() bool { return r.up.Open() == 0 })
}

// until waits until a condition holds.
func (r *fleetRig) until(what string, holds func() bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 3*time.Minute) // the pauses of a copy grow to a minute and more
	defer cancel()
	for !holds() {
		select {
		case <-ctx.Done():
			for i, p := range r.replicas {
				if p.process != nil {
					s, _ := p.stats()
					r.t.Logf("replica %d, %s: %s", i, p.Self, strings.Join(s.Copies, "; "))
				}
			}
			r.t.Fatalf("waiting until %s: not within three minutes", what)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// source is where the replicas get mirror/app.
func (r *fleetRig) source() upstream.Source {
	return upstream.Source{Rule: fleetRule, Host: r.host, Repository: "team/app"}
}

// rank returns the numbers of replicas in the order in which they are to fetch a blob.
func (r *fleetRig) rank(d digest.Digest, of []string) (ranked []int) {
	for _, address := range fleet.Rank(of, r.source(), d) {
		ranked = append(ranked, slices.Index(r.addresses(), address))
	}
	return ranked
}

// addBlob adds a blob to the upstream. If first is not negative, the blob falls to that
// replica.
func (r *fleetRig) addBlob(size, first int) digest.Digest {
	for seed := uint64(time.Now().UnixNano()); ; seed++ {
		body := upstreamtest.Bytes(seed, size)
		d := digest.FromBytes(body)
		if first < 0 || r.rank(d, r.addresses())[0] == first {
			return r.up.AddBlob("team/app", body)
		}
	}
}
