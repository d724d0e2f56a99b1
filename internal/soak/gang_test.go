package soak

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
)

// gang is the set of hostile clients.
type gang struct {
	s     *stage
	count atomic.Int64 // requests
	stop  context.CancelFunc
	all   sync.WaitGroup
	deaf  []net.Conn
}

// attacker is one hostile client.
type attacker struct {
	*gang
	ctx    context.Context
	r      *rand.Rand
	client *http.Client
}

// attacks are the attacks of hostile clients, each as often as it is listed.
var attacks = []func(*attacker){
	(*attacker).loop, (*attacker).longQuery, (*attacker).manyRanges, (*attacker).leave, (*attacker).missing,
	(*attacker).farRange, (*attacker).tagFlood, (*attacker).tagFlood, (*attacker).tagFlood, (*attacker).chain, (*attacker).doubled,
	(*attacker).lists, (*attacker).touch, (*attacker).touch, (*attacker).steal, (*attacker).limited,
}

// unleash starts the hostile clients. Each waits for a moment between two attacks, since the
// test is about the resources that they hold, and not about the processor time that any
// client takes.
func (s *stage) unleash() *gang {
	ctx, stop := context.WithCancel(context.Background())
	g := &gang{s: s, stop: stop}
	s.Cleanup(g.close)
	for i := range hostileClients {
		a := &attacker{gang: g, ctx: ctx, r: s.random(3000 + uint64(i)), client: newClient()}
		g.all.Go(a.run)
	}
	for range deafClients {
		g.sendDeaf(s.bigBlob())
	}
	return g
}

// bigBlob is the path of a stranger's layer that the cache has.
func (s *stage) bigBlob() string {
	return "/v2/open/good/blobs/" + s.home.open.Layers[0].Digest.String()
}

// leave ends all attackers except the deaf ones.
func (g *gang) leave() {
	g.stop()
	g.all.Wait()
}

// close ends the deaf ones too.
func (g *gang) close() {
	g.leave()
	for _, c := range g.deaf {
		_ = c.Close()
	}
	g.deaf = nil
}

// sendDeaf sends a request and reads nothing of the response.
func (g *gang) sendDeaf(path string) {
	c, err := net.Dial("tcp", strings.TrimPrefix(g.s.web.URL, "http://"))
	if err != nil {
		g.s.Error(err)
		return
	}
	_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path); err != nil {
		g.s.Error(err)
	}
	g.deaf = append(g.deaf, c)
}

func (a *attacker) run() {
	defer a.client.CloseIdleConnections()
	a.tagFlood() // fills the queue first
	ticker := time.NewTicker(25 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-a.ctx.Done():
			return
		case <-ticker.C:
			attacks[a.r.IntN(len(attacks))](a)
		}
	}
}

// do sends a request and reads the response for as long as its patience lasts.
func (a *attacker) do(method, path string, patience time.Duration, header ...string) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(a.ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, a.s.web.URL+path, nil)
	if err != nil {
		a.s.wrong.add("%v", err)
		return 0, nil, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	a.count.Add(1)
	resp, err := a.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, body, err
}

// patience returns a random patience, which is mostly short.
func (a *attacker) patience() time.Duration {
	return []time.Duration{15 * time.Millisecond, 100 * time.Millisecond, 300 * time.Millisecond, 3 * time.Second}[a.r.IntN(4)]
}

// repo returns a repository of strangers, on the other host or on that of the honest tenant.
func (a *attacker) repo() string {
	open := []string{"good", "gone", "busy", "mute", "cut", "none"}
	switch n := a.r.IntN(10); {
	case n < 5:
		return "open/" + open[a.r.IntN(len(open))]
	case n < 8:
		return "evil/" + kinds[a.r.IntN(len(kinds))]
	}
	return "chained/" + []string{"busy", "json", "dead", "storage", "down", "noise"}[a.r.IntN(6)]
}

// path returns the path of some request to a repository.
func (a *attacker) path() string {
	d := someDigest(a.r.Uint64()).String()
	kinds := []string{"manifests/v1", "manifests/" + d, "blobs/" + d, "tags/list", "referrers/" + d}
	return "/v2/" + a.repo() + "/" + kinds[a.r.IntN(len(kinds))]
}

func (a *attacker) method() string { return []string{http.MethodGet, http.MethodHead}[a.r.IntN(2)] }

// loop claims to have passed many caches, or one with a very long name.
func (a *attacker) loop() {
	value := []string{strings.Repeat("x", 100<<10), strings.Repeat("a,", 50<<10), "Fastly", "a, b"}[a.r.IntN(4)]
	a.do(a.method(), a.path(), a.patience(), "CDN-Loop", value)
}

// longQuery sends requests whose results are cached, in a line almost as long as a server
// allows.
func (a *attacker) longQuery() {
	path := a.path()
	if a.r.IntN(2) == 0 {
		path = fmt.Sprintf("/v2/evil/busy/manifests/t%d", a.r.Uint64())
	}
	a.do(a.method(), path+"?x="+strings.Repeat("x", 800<<10), a.patience())
}

// manyRanges requests a stored blob byte by byte.
func (a *attacker) manyRanges() {
	a.do(http.MethodGet, a.s.bigBlob(), a.patience(), "Range", "bytes=0-0"+strings.Repeat(",0-0", 20_000))
}

// leave sends a request that takes long, and does not wait for the response.
func (a *attacker) leave() {
	for range 10 {
		a.do(a.method(), a.path(), 15*time.Millisecond)
	}
}

// missing requests content that does not exist.
func (a *attacker) missing() {
	for range 10 {
		d := someDigest(a.r.Uint64()).String()
		ref := []string{"manifests/" + fmt.Sprint("t", a.r.Uint64()), "manifests/" + d, "blobs/" + d}[a.r.IntN(3)]
		a.do(a.method(), "/v2/open/good/"+ref, time.Second)
	}
}

// farRange requests bytes deep in a blob that claims to be huge.
func (a *attacker) farRange() {
	repo := []string{"evil/cut", "evil/drip"}[a.r.IntN(2)]
	path := "/v2/" + repo + "/blobs/" + someDigest(a.r.Uint64N(20)).String()
	a.do(http.MethodGet, path, a.patience(), "Range", fmt.Sprintf("bytes=%d-", a.r.Int64N(1<<a.r.IntN(40))))
}

// tagFlood pulls images whose copies never end.
func (a *attacker) tagFlood() {
	repo := []string{"drip", "drip", "drip", "hang", "hang", "busy", "cut", "json", "storage", "dead"}[a.r.IntN(10)]
	for range 5 {
		a.do(http.MethodGet, fmt.Sprintf("/v2/evil/%s/manifests/t%d", repo, a.r.Uint64()), time.Second)
	}
}

// chain pulls an image from a repository in which every manifest has a referrer.
func (a *attacker) chain() {
	a.do(http.MethodGet, fmt.Sprintf("/v2/chained/json/manifests/t%d", a.r.Uint64N(100)), time.Second)
}

// doubled pulls the nested indexes by HTTP, and prefetches all of them.
func (a *attacker) doubled() {
	a.do(http.MethodGet, "/v2/chained/busy/manifests/doubled", time.Second)
	ctx, cancel := context.WithTimeout(a.ctx, a.patience())
	defer cancel()
	begun := time.Now()
	_ = a.s.cache.Prefetch(ctx, "evil/busy", "doubled", cache.PrefetchOptions{})
	if took := time.Since(begun); took > 10*time.Second {
		a.s.late.add("a prefetch ended %v after it had begun", took)
	}
}

// lists requests lists without end.
func (a *attacker) lists() {
	for range 3 {
		a.do(http.MethodGet, "/v2/evil/"+kinds[a.r.IntN(len(kinds))]+"/tags/list", a.patience())
	}
}

// touch sends any request.
func (a *attacker) touch() { a.do(a.method(), a.path(), a.patience()) }

// steal requests a layer of the honest tenant in a repository whose upstream claims to have
// every blob.
func (a *attacker) steal() {
	d := a.s.honest.someLayer(a.r)
	for _, repo := range []string{"evil/storage", "evil/json", "open/good", "open/gone"} {
		if status, body, err := a.do(http.MethodGet, "/v2/"+repo+"/blobs/"+d.String(), time.Second); err == nil && status == http.StatusOK {
			a.s.wrong.add("%s@%s is answered 200 with %d bytes, of the digest %s", repo, d, len(body), digest.FromBytes(body))
		}
	}
}

// limited sends requests for which both hosts respond with 429.
func (a *attacker) limited() {
	a.do(a.method(), "/v2/limited/all/manifests/v1", a.patience())
	a.do(a.method(), "/v2/greedy/all/manifests/v1", a.patience())
}

func someDigest(n uint64) digest.Digest { return digest.FromString(fmt.Sprint("of nobody ", n)) }
