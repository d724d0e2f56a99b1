package fleet

import (
	"context"
	"crypto/subtle"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/internal/ociname"
)

const bearer = "Bearer "

// Handler answers the other replicas, for a listener of its own: it belongs to no public
// one. c is the cache whose Opener is this Fleet's.
func (f *Fleet) Handler(c *cache.Cache) http.Handler {
	f.begin()
	return &handler{f, c}
}

// Server returns a server for Handler: HTTP/1.1, with an end to waiting for a header and
// none to sending. Its Addr and TLSConfig are the caller's. With certificates as the proof,
// TLSConfig needs ClientAuth and ClientCAs.
func (f *Fleet) Server(c *cache.Cache) *http.Server {
	f.begin()
	s := &http.Server{Handler: f.Handler(c), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10, Protocols: new(http.Protocols), ErrorLog: slog.NewLogLogger(f.log.Handler(), slog.LevelDebug)}
	s.Protocols.SetHTTP1(true)
	return s
}

// ClientCertificate is a Trust that accepts requests with a client certificate that the
// server has verified, by ClientCAs of its TLS configuration.
func ClientCertificate(r *http.Request) bool {
	return r.TLS != nil && len(r.TLS.VerifiedChains) > 0
}

type handler struct {
	f *Fleet
	c *cache.Cache
}

// ServeHTTP answers a replica; see the comment of the package.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f := h.f
	switch path, ours := strings.CutPrefix(r.URL.Path, protocol); {
	case f.bad != nil:
		w.WriteHeader(http.StatusInternalServerError)
	case !f.trusts(r):
		f.counts.strangers.Add(1)
		w.WriteHeader(http.StatusUnauthorized)
	case !ours:
		w.WriteHeader(http.StatusNotFound)
	case path == "ping":
		f.health.seen(r.Header.Get(headerPeer))
		w.WriteHeader(http.StatusNoContent)
	default:
		f.health.seen(r.Header.Get(headerPeer))
		h.route(w, r, path)
	}
}

// route answers a request that comes from a replica.
func (h *handler) route(w http.ResponseWriter, r *http.Request, path string) {
	switch path {
	case "copies":
		h.copies(w, r)
	case "copies/state":
		h.copyState(w, r)
	case "forget":
		h.forget(w, r)
	default:
		h.blob(w, r, path)
	}
}

// trusts reports whether a request comes from a replica.
func (f *Fleet) trusts(r *http.Request) bool {
	if f.Trust != nil && !f.Trust(r) {
		return false
	}
	if len(f.Secret) == 0 {
		return true // checked: there is Trust, or Open
	}
	return proves(r, append([][]byte{f.Secret}, f.FormerSecrets...)...)
}

// proves reports whether a request has one of some secrets.
func proves(r *http.Request, secrets ...[]byte) bool {
	secret, ok := strings.CutPrefix(r.Header.Get("Authorization"), bearer)
	if !ok {
		return false
	}
	known := 0
	for _, s := range secrets {
		known |= subtle.ConstantTimeCompare([]byte(secret), s)
	}
	return known == 1
}

// meet takes a replica that has sent a request, and that Peers does not name, for a guest. It
// will be sent the Secret, so it must have it: to have a former one is not enough.
func (f *Fleet) meet(r *http.Request, peer string) {
	if f.Open || len(f.Secret) > 0 && !proves(r, f.Secret) || peer == f.Self || !validAddress(peer) || slices.Contains(f.Peers(r.Context()), peer) {
		return
	}
	f.guests.came(peer)
}

// wanted is a request for a blob.
type wanted struct {
	key
	repository string
	asker
}

// parse reads a request for a blob. If it is none, it returns a status.
func (h *handler) parse(r *http.Request, path string) (q wanted, status int) {
	i := strings.LastIndex(path, "/blobs/")
	s, ok := parseSource(r.Header.Get(headerSource))
	switch {
	case i < 0:
		return q, http.StatusNotFound
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return q, http.StatusMethodNotAllowed
	}
	q = wanted{key: key{s, digest.Digest(path[i+len("/blobs/"):])}, repository: path[:i]}
	q.asker = asker{name: r.Header.Get(headerPeer), without: strings.Fields(r.Header.Get(headerWithout))}
	if !ok || q.name == "" || !ociname.ValidDigest(q.digest.String()) || !ociname.ValidRepository(q.repository, maxName) {
		return q, http.StatusBadRequest
	}
	// A replica that begins a chain of caches under another name is of another fleet, or a
	// loop of caches would not be noticed.
	if r.Header.Get(headerLoop) != h.c.ID || h.c.ID == "" {
		if h.f.otherID.due() {
			h.f.log.Warn("fleet: a request of a replica whose cache has another ID; the ID of all must be the same, and not empty",
				"self", h.f.Self, "peer", short(q.name), "id", h.c.ID, "theirs", short(r.Header.Get(headerLoop)))
		}
		return q, http.StatusBadRequest
	}
	return q, 0
}

// maxName is how long a repository name may be.
const maxName = 2048

// seldom is for what is logged once a minute at most, however often it happens.
type seldom struct{ next atomic.Int64 }

// due reports whether it is time again.
func (s *seldom) due() bool {
	now := time.Now()
	next := s.next.Load()
	return now.UnixNano() >= next && s.next.CompareAndSwap(next, now.Add(time.Minute).UnixNano())
}

// short is a word of another replica as far as a log needs it.
func short(word string) string { return word[:min(len(word), 128)] }

// blob answers a request for a blob.
func (h *handler) blob(w http.ResponseWriter, r *http.Request, path string) {
	q, status := h.parse(r, path)
	if status != 0 {
		w.WriteHeader(status)
		return
	}
	h.f.meet(r, q.name)
	state := h.c.StatPeer(r.Context(), q.repository, q.source, q.digest)
	if state.Refused { // before others are asked: this replica would seem to be about to bring the blob
		h.f.counts.refused.Add(1)
		w.WriteHeader(http.StatusNotFound)
		return
	}
	has := state.Stored || state.Verified
	if !has {
		q.first = h.f.knows(r.Context(), q.name) && Rank([]string{h.f.Self, q.name}, q.source, q.digest)[0] == q.name
	}
	if r.Method == http.MethodHead {
		h.head(w, r, q, state)
		return
	}
	f := h.f
	if !has {
		if f.leaving.Load() && !state.Coming || state.Front == 0 && f.refused.lately(q.key) {
			f.counts.refused.Add(1)
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set(headerFront, strconv.FormatInt(state.Front, 10))
		done, holder, ok := h.promise(r.Context(), q, state)
		switch {
		case ok:
			defer done()
		case slices.Contains(q.without, holder):
			o := &onward{ResponseWriter: w, h: h, q: q}
			defer o.end()
			w = o
		default:
			h.refuse(w, holder)
			return
		}
	}
	f.counts.served.Add(1)
	h.c.ServePeer(w, r, q.repository, q.source, q.digest)
}

// refuse sends a replica to another one.
func (h *handler) refuse(w http.ResponseWriter, holder string) {
	h.f.counts.refused.Add(1)
	clear(w.Header())
	w.Header().Set(headerHolder, holder)
	w.WriteHeader(http.StatusConflict)
}

// promise is that of roles. What this replica has not begun, or is about to begin, another
// one may have, which does not know of this one yet or has taken it for dead: that one is
// the holder then.
func (h *handler) promise(ctx context.Context, q wanted, state cache.PeerBlob) (done func(), holder string, ok bool) {
	f := h.f
	if state.Front == 0 && !f.roles.decided(q.key) {
		defer f.roles.ask(q.key)()
		ask := &question{f: f, key: q.key, repository: q.repository, loop: h.c.ID}
		if holder = ask.find(ctx, f.rank(ctx, q.key), -1, q.name); holder != "" {
			return nil, holder, false
		}
	}
	return f.roles.promise(q.key, q.asker)
}

// head answers whether this replica has a blob or brings it.
func (h *handler) head(w http.ResponseWriter, r *http.Request, q wanted, state cache.PeerBlob) {
	f := h.f
	now := f.roles.stand(q.key, q.asker, state.Coming, state.Front)
	switch {
	case state.Stored, state.Verified:
		w.Header().Set("Content-Length", strconv.FormatInt(state.Size, 10))
	case now.holder != "":
		w.Header().Set(headerHolder, now.holder)
		w.Header().Set(headerFront, strconv.FormatInt(state.Front, 10))
		w.WriteHeader(http.StatusConflict)
	case f.leaving.Load() && !state.Coming, state.Front == 0 && f.refused.lately(q.key), !now.brings && !h.reaches(r.Context(), q):
		w.WriteHeader(http.StatusNotFound)
	default:
		w.Header().Set(headerFront, strconv.FormatInt(state.Front, 10))
	}
}

// reachTime is how long a replica may take to say what it has for one that does not reach it.
const reachTime = findTime / 2

// reaches reports whether one of the replicas that the asking one does not reach has the blob
// or brings it, so that this one can send it on.
func (h *handler) reaches(ctx context.Context, q wanted) bool {
	f := h.f
	ask := question{f: f, key: q.key, repository: q.repository, loop: h.c.ID}
	var others []string
	for _, p := range q.without[:min(len(q.without), maxBefore)] {
		if p != q.name && ask.worthAsking(ctx, p) {
			others = append(others, p)
		}
	}
	w := ask.oneOf(ctx, others, nil, -1, nil, reachTime)
	return slices.Contains(others, w.who) && w.past == ""
}
