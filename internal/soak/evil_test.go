package soak

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// kinds are the repositories below evil/ and chained/, each named for the behaviour of its
// blobs.
var kinds = []string{"drip", "hang", "busy", "cut", "dead", "json", "storage", "down", "mute", "noise"}

// doubledDepth is the depth of nested indexes, each of which names the next one twice: a
// program that does not remember what it has read sees 2^24 manifests.
const doubledDepth = 24

// evil is an upstream that does whatever harm an upstream can.
type evil struct {
	host, storageHost string
	web, storage      *httptest.Server
	ended             chan struct{} // closed by vanish; requests that hang then end
	doubled           digest.Digest // the outermost index

	mu   sync.Mutex
	r    *rand.Rand
	made map[digest.Digest]made
}

// made is a made-up manifest.
type made struct {
	mediaType string
	body      []byte
}

func newEvil(t *testing.T, seed uint64) *evil {
	e := &evil{ended: make(chan struct{}), r: rand.New(rand.NewPCG(seed, 2000)), made: map[digest.Digest]made{}}
	start := func(h http.HandlerFunc) (*httptest.Server, string) {
		s := httptest.NewUnstartedServer(h)
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.Start()
		return s, s.Listener.Addr().String()
	}
	e.web, e.host = start(e.serve)
	e.storage, e.storageHost = start(e.serveStorage)
	child := e.make("bottom", "drip", nil)
	for i := range doubledDepth {
		index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{child, child},
			Annotations: map[string]string{"level": strconv.Itoa(i)}}
		child = e.keep(index.MediaType, index)
	}
	e.doubled = child.Digest
	t.Cleanup(e.close)
	return e
}

// vanish cuts every connection, and responds with 404 from now on. If the upstream were down
// instead, the cache would request the rest of each blob for 15 seconds.
func (e *evil) vanish() {
	e.mu.Lock()
	if e.made != nil {
		close(e.ended)
	}
	e.made = nil
	e.mu.Unlock()
	e.web.CloseClientConnections()
	e.storage.CloseClientConnections()
}

func (e *evil) close() {
	e.vanish()
	e.web.Close()
	e.storage.Close()
}

// vanished reports whether vanish was called.
func (e *evil) vanished() bool {
	select {
	case <-e.ended:
		return true
	default:
		return false
	}
}

// chance returns a number below n.
func (e *evil) chance(n int) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.r.IntN(n)
}

func (e *evil) keep(mediaType string, v any) ocispec.Descriptor {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain structs can be encoded
	}
	d := digest.FromBytes(body)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.made != nil {
		e.made[d] = made{mediaType, body}
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(body))}
}

// make makes up an image whose layers do not exist.
func (e *evil) make(name, kind string, subject *ocispec.Descriptor) ocispec.Descriptor {
	blob := func(mediaType, part string, size int64) ocispec.Descriptor {
		return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromString(kind + name + part), Size: size}
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Subject: subject,
		Config: blob(ocispec.MediaTypeImageConfig, "config", 1000),
		Layers: []ocispec.Descriptor{blob(ocispec.MediaTypeImageLayer, "a", 1<<30), blob(ocispec.MediaTypeImageLayer, "b", 1<<34)}}
	return e.keep(m.MediaType, m)
}

func (e *evil) serve(w http.ResponseWriter, r *http.Request) {
	part := strings.Split(strings.TrimPrefix(r.URL.Path, "/v2/"), "/") // tenant, kind, api, reference
	if len(part) != 4 || e.vanished() {
		http.NotFound(w, r)
		return
	}
	tenant, kind, api, reference := part[0], part[1], part[2], part[3]
	switch {
	case tenant == "limited":
		w.Header().Set("Retry-After", "86400")
		w.WriteHeader(http.StatusTooManyRequests)
	case kind == "down":
		w.Header().Set("Retry-After", "86400")
		w.WriteHeader(http.StatusServiceUnavailable)
	case kind == "mute":
		e.hang(r)
	case kind == "noise":
		noise(w)
	case api == "manifests":
		e.manifest(w, r, kind, reference)
	case api == "tags":
		e.tags(w, r)
	case api == "referrers":
		e.referrers(w, reference)
	default:
		e.blob(w, r, kind, digest.Digest(reference))
	}
}

// hang waits until the client gives up.
func (e *evil) hang(r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-e.ended:
	}
}

// noise responds with bytes that are no HTTP.
func noise(w http.ResponseWriter) {
	if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_, _ = io.WriteString(c, "this is not HTTP\r\n\r\n")
		_ = c.Close()
	}
}

// manifest serves the manifest that a tag points to, which it makes up, or by digest one that
// it made up before.
func (e *evil) manifest(w http.ResponseWriter, r *http.Request, kind, reference string) {
	d := digest.Digest(reference)
	switch {
	case reference == "doubled":
		d = e.doubled
	case d.Validate() != nil:
		d = e.make(reference, kind, nil).Digest
	}
	e.mu.Lock()
	m, ok := e.made[d]
	e.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", m.mediaType)
	w.Header().Set("Docker-Content-Digest", d.String())
	w.Header().Set("Content-Length", strconv.Itoa(len(m.body)))
	_, _ = w.Write(m.body)
}

// tags serves a list without end.
func (e *evil) tags(w http.ResponseWriter, r *http.Request) {
	page := rand.Uint64()
	w.Header().Set("Link", fmt.Sprintf(`<%s?last=%d&n=200>; rel="next"`, r.URL.Path, page))
	_, _ = io.WriteString(w, `{"name":"x","tags":["v"`)
	for i := range 200 {
		_, _ = fmt.Fprintf(w, `,"v%d-%d"`, page, i)
	}
	_, _ = io.WriteString(w, `]}`)
}

// referrers makes up a referrer of every subject, so that each of them has one too.
func (e *evil) referrers(w http.ResponseWriter, subject string) {
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.Digest(subject), Size: 1000}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{e.make(subject, "json", &d), e.make(subject, "cut", &d)}}
	w.Header().Set("Content-Type", index.MediaType)
	_ = json.NewEncoder(w).Encode(index)
}

func (e *evil) blob(w http.ResponseWriter, r *http.Request, kind string, d digest.Digest) {
	switch kind {
	case "drip":
		e.drip(w, r)
	case "hang":
		e.hang(r)
	case "cut":
		e.cut(w, r)
	case "dead":
		http.Redirect(w, r, "http://"+deadAddress+"/"+d.Encoded(), http.StatusTemporaryRedirect)
	case "storage":
		http.Redirect(w, r, "http://"+e.storageHost+"/"+d.Encoded(), http.StatusTemporaryRedirect)
	case "json":
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"error":"not a blob","seed":%d}`, e.chance(1000))
	default:
		w.Header().Set("Retry-After", strconv.Itoa(1+e.chance(2)*86400))
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

// begin sends the header of a blob of a size that the upstream makes up.
func begin(w http.ResponseWriter, r *http.Request, size int64) {
	w.Header().Set("Content-Type", "application/octet-stream")
	from, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes=")
	first, err := strconv.ParseInt(strings.SplitN(from, "-", 2)[0], 10, 64)
	if !ok || err != nil || first >= size {
		w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
		return
	}
	w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, size-1, size))
	w.Header().Set("Content-Length", strconv.FormatInt(size-first, 10))
	w.WriteHeader(http.StatusPartialContent)
}

// drip sends a blob at ten bytes a second.
func (e *evil) drip(w http.ResponseWriter, r *http.Request) {
	begin(w, r, 1<<30)
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for r.Method == http.MethodGet {
		if _, err := w.Write([]byte("x")); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			return
		case <-e.ended:
			return
		}
	}
}

// cut announces a large blob and breaks off.
func (e *evil) cut(w http.ResponseWriter, r *http.Request) {
	begin(w, r, []int64{1 << 30, 1 << 34, 1 << 40}[e.chance(3)])
	if r.Method != http.MethodGet {
		return
	}
	_, _ = w.Write(make([]byte, 64<<10))
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// serveStorage claims in response to HEAD to have every blob.
func (e *evil) serveStorage(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		_, _ = w.Write(make([]byte, 1000+e.chance(1000)))
	}
}
