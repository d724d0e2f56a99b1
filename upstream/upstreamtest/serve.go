package upstreamtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/internal/fakeserver"
)

const chunk = 128 << 10

// ServeHTTP serves a request, as the listener does.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	q := Request{Method: req.Method, Path: req.URL.Path, Query: req.URL.RawQuery, Header: req.Header.Clone()}
	q.Kind, q.Repository, q.Reference = parse(req.URL.Path)
	var f Fault
	visit := r.server.Enter(func() {
		f = r.fault(q)
		r.log.Add(q)
	})
	defer visit.Leave()
	r.inspect(q)
	if f.Latency > 0 {
		select {
		case <-time.After(f.Latency):
		case <-req.Context().Done():
		}
	}
	if f.Hang && f.Do == nil {
		visit.Hang(req)
	}
	switch {
	case f.Do != nil:
		f.Do(w, req)
	case f.Challenge != "":
		w.Header().Set("WWW-Authenticate", f.Challenge)
		fail(w, q.Kind, http.StatusUnauthorized, "")
	case f.Redirect != "":
		w.Header().Set("Location", f.Redirect)
		w.WriteHeader(http.StatusTemporaryRedirect)
	case f.Status != 0:
		fail(w, q.Kind, f.Status, f.RetryAfter)
	case q.Kind == "token":
		r.token(w, req)
	case r.allowed(w, req, q):
		a := &reply{r: r, w: w, req: req, q: q, f: f, visit: visit}
		a.serve()
	}
}

// inspect complains of requests of this module's client with a wrong Accept-Encoding.
func (r *Registry) inspect(q Request) {
	if e := q.Header.Get("Accept-Encoding"); e != "identity" && q.Kind != "token" && strings.HasPrefix(q.Header.Get("User-Agent"), "pullthrough") {
		r.complaints.Complain("%s %s with Accept-Encoding %q, want identity", q.Method, q.Path, e)
	}
}

// fail responds with an OCI error.
func fail(w http.ResponseWriter, kind string, status int, retryAfter string) {
	codes := map[int]string{401: "UNAUTHORIZED", 403: "DENIED", 404: "MANIFEST_UNKNOWN", 429: "TOOMANYREQUESTS"}
	w.Header().Set("Content-Type", "application/json")
	if retryAfter != "" {
		w.Header().Set("Retry-After", retryAfter)
	}
	w.WriteHeader(status)
	code := codes[status]
	switch {
	case code == "":
		code = "UNKNOWN"
	case status == http.StatusNotFound && kind == "blob":
		code = "BLOB_UNKNOWN"
	case status == http.StatusNotFound && kind != "manifest":
		code = "NAME_UNKNOWN"
	}
	_, _ = fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"a fault of upstreamtest"}]}`, code)
}

// reply serves one request.
type reply struct {
	r     *Registry
	w     http.ResponseWriter
	req   *http.Request
	q     Request
	f     Fault
	visit *fakeserver.Visit
}

// count counts bytes of a blob.
func (a *reply) count(n int) {
	if a.q.Kind != "blob" {
		return
	}
	a.r.mu.Lock()
	defer a.r.mu.Unlock()
	a.r.sent[digest.Digest(a.q.Reference)] += int64(n)
}

func (a *reply) serve() {
	if a.req.Method != http.MethodGet && a.req.Method != http.MethodHead {
		fail(a.w, a.q.Kind, http.StatusMethodNotAllowed, "")
		return
	}
	switch a.q.Kind {
	case "manifest":
		if a.r.spend(a.w, a.q) {
			a.manifest()
		}
	case "blob":
		a.r.mu.Lock()
		body, ok := a.r.repo(a.q.Repository).blobs[digest.Digest(a.q.Reference)]
		storage := a.r.storage
		a.r.mu.Unlock()
		if ok && storage != nil && a.req.Method == http.MethodGet {
			a.w.Header().Set("Location", storage.link(digest.Digest(a.q.Reference)))
			a.w.WriteHeader(http.StatusTemporaryRedirect)
			return
		}
		if !ok {
			fail(a.w, a.q.Kind, http.StatusNotFound, "")
			return
		}
		a.content("application/octet-stream", a.q.Reference, body, true)
	case "tags":
		a.tags()
	case "referrers":
		a.referrers()
	default:
		if a.q.Path != "/v2/" {
			fail(a.w, a.q.Kind, http.StatusNotFound, "")
			return
		}
		_, _ = a.w.Write([]byte("{}"))
	}
}

func (a *reply) manifest() {
	a.r.mu.Lock()
	p := a.r.repo(a.q.Repository)
	d := digest.Digest(a.q.Reference)
	if t, ok := p.tags[a.q.Reference]; ok {
		d = t
	}
	m, ok := p.manifests[d]
	a.r.mu.Unlock()
	if subject, isTag := strings.CutPrefix(a.q.Reference, "sha256-"); !ok && isTag && a.r.lacksReferrers() {
		if index := a.r.referring(a.q.Repository, "sha256:"+subject, ""); len(index.Manifests) > 0 {
			m, ok = stored{index.MediaType, mustJSON(index)}, true
			d = digest.FromBytes(m.body)
		}
	}
	if !ok {
		fail(a.w, a.q.Kind, http.StatusNotFound, "")
		return
	}
	if a.unmodified(d) {
		return
	}
	a.content(m.mediaType, d.String(), m.body, false)
}

// unmodified sets the ETag of a manifest, and responds with 304 if the client has it.
func (a *reply) unmodified(d digest.Digest) bool {
	etag := `"` + d.String() + `"`
	switch a.f.ETag {
	case "":
	case "-":
		return false
	default:
		etag = a.f.ETag
	}
	a.w.Header().Set("Etag", etag)
	for _, have := range a.req.Header.Values("If-None-Match") {
		for one := range strings.SplitSeq(have, ",") {
			if strings.TrimSpace(one) == etag {
				a.w.WriteHeader(http.StatusNotModified)
				return true
			}
		}
	}
	return false
}

// content sends content, with ranges and faults.
func (a *reply) content(mediaType, digest string, body []byte, ranges bool) {
	h, f := a.w.Header(), a.f
	if f.ContentType != "" {
		mediaType = f.ContentType
	}
	h.Set("Content-Type", mediaType)
	if f.WrongDigest != "" {
		digest = f.WrongDigest
	}
	if !f.NoDigest {
		h.Set("Docker-Content-Digest", digest)
	}
	if f.Encoding != "" {
		h.Set("Content-Encoding", f.Encoding)
	}
	start, end, status := int64(0), int64(len(body)), http.StatusOK
	if v := a.req.Header.Get("Range"); v != "" && ranges && !f.IgnoreRange {
		var ok bool
		if start, end, ok = span(v, int64(len(body))); !ok {
			h.Set("Content-Range", fmt.Sprintf("bytes */%d", len(body)))
			fail(a.w, a.q.Kind, http.StatusRequestedRangeNotSatisfiable, "")
			return
		}
		start = min(start+f.ShiftRange, end-1)
		status = http.StatusPartialContent
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, end-1, int64(len(body))+f.WrongLength))
	}
	if ranges {
		h.Set("Accept-Ranges", "bytes")
	}
	if !f.NoLength {
		h.Set("Content-Length", strconv.FormatInt(end-start+f.WrongLength, 10))
	}
	a.w.WriteHeader(status)
	_ = http.NewResponseController(a.w).Flush()
	if a.req.Method == http.MethodGet {
		a.send(body[start:end], start)
	}
}

// span parses one range.
func span(v string, size int64) (start, end int64, ok bool) {
	first, last, ok := strings.Cut(strings.TrimPrefix(v, "bytes="), "-")
	start, err := strconv.ParseInt(first, 10, 64)
	end = size
	if n, err := strconv.ParseInt(last, 10, 64); err == nil {
		end = min(size, n+1)
	}
	return start, end, ok && err == nil && start < end
}

// send writes a body that begins at an offset of the content. It counts the bytes, and
// paces blobs.
func (a *reply) send(body []byte, offset int64) {
	var sent int64
	own, most := a.r.ownPace()
	for len(body) > 0 {
		n := min(int64(len(body)), most)
		if a.f.Cut > 0 {
			n = min(n, a.f.Cut-sent)
		}
		if a.f.Stall > 0 {
			n = min(n, a.f.Stall-sent)
		}
		switch {
		case n == 0 && a.f.Stall > 0:
			a.visit.Hang(a.req)
			a.f.Stall = 0
			continue
		case n == 0:
			panic(http.ErrAbortHandler)
		}
		piece := body[:n]
		if i := a.f.FlipAt - offset - sent; a.f.Flip && i >= 0 && i < n {
			piece = slices.Clone(piece)
			piece[i] ^= 1
		}
		shared := a.r.sharedPace()
		if a.q.Kind == "blob" {
			own.take(int(n), a.req.Context().Done())
			shared.take(int(n), a.req.Context().Done())
		}
		// Bytes are counted before they are written, so that a client that has them
		// finds them counted. Over HTTP/2 a write may fail though its bytes have
		// arrived, so an error does not change the count.
		a.count(len(piece))
		_, err := a.w.Write(piece)
		if own != nil || shared != nil || a.f.Cut > 0 || a.f.Stall > 0 {
			_ = http.NewResponseController(a.w).Flush()
		}
		if err != nil {
			return
		}
		sent += n
		body = body[n:]
	}
}

func (a *reply) tags() {
	a.r.mu.Lock()
	p, ok := a.r.repos[a.q.Repository]
	var tags []string
	if ok {
		for t := range p.tags {
			tags = append(tags, t)
		}
	}
	a.r.mu.Unlock()
	if !ok {
		fail(a.w, a.q.Kind, http.StatusNotFound, "")
		return
	}
	slices.Sort(tags)
	query := a.req.URL.Query()
	last := query.Get("last")
	i, found := slices.BinarySearch(tags, last)
	if found {
		i++
	}
	tags = tags[i:]
	if n, err := strconv.Atoi(query.Get("n")); err == nil && n < len(tags) {
		tags = tags[:n]
		if n > 0 {
			next := url.Values{"n": {strconv.Itoa(n)}, "last": {tags[n-1]}}
			a.w.Header().Set("Link", fmt.Sprintf(`</v2/%s/tags/list?%s>; rel="next"`, a.q.Repository, next.Encode()))
		}
	}
	if tags == nil {
		tags = []string{}
	}
	a.w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(a.w).Encode(map[string]any{"name": a.q.Repository, "tags": tags})
}

// lacksReferrers reports whether the referrers API is missing.
func (r *Registry) lacksReferrers() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.noRefs
}

func (a *reply) referrers() {
	if a.r.lacksReferrers() {
		fail(a.w, a.q.Kind, http.StatusNotFound, "")
		return
	}
	want := a.req.URL.Query().Get("artifactType")
	index := a.r.referring(a.q.Repository, a.q.Reference, want)
	if want != "" {
		a.w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	contentType := ocispec.MediaTypeImageIndex
	if a.f.ContentType != "" {
		contentType = a.f.ContentType
	}
	a.w.Header().Set("Content-Type", contentType)
	_ = json.NewEncoder(a.w).Encode(index)
}

// referring lists the manifests that refer to a subject, of the artifact type want unless
// that is empty.
func (r *Registry) referring(repository, subject, want string) ocispec.Index {
	r.mu.Lock()
	defer r.mu.Unlock()
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	for d, m := range r.repo(repository).manifests {
		var parsed ocispec.Manifest
		if json.Unmarshal(m.body, &parsed) != nil || parsed.Subject == nil || parsed.Subject.Digest.String() != subject {
			continue
		}
		if want == "" || parsed.ArtifactType == want {
			index.Manifests = append(index.Manifests, ocispec.Descriptor{MediaType: m.mediaType, Digest: d, Size: int64(len(m.body)), ArtifactType: parsed.ArtifactType})
		}
	}
	slices.SortFunc(index.Manifests, func(x, y ocispec.Descriptor) int { return strings.Compare(x.Digest.String(), y.Digest.String()) })
	return index
}
