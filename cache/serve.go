package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"github.com/pullthrough/pullthrough/internal/route"
)

const octetStream = "application/octet-stream"

// Header values that are the same in every response, in the form in which http.Header
// holds them. They never change.
var (
	apiVersion      = []string{"registry/2.0"}
	cacheControl    = []string{"private, no-transform"}
	noSniff         = []string{"nosniff"}
	octetStreams    = []string{octetStream}
	byteRanges      = []string{"bytes"}
	fromUpstream    = []string{"upstream"}
	statusHit       = []string{cacheName + hit}
	statusUnchanged = []string{cacheName + unchanged}
)

// serveManifest writes a manifest.
func serveManifest(w http.ResponseWriter, r *http.Request, a answer) {
	m := a.man
	h := w.Header()
	h["Content-Type"] = m.Header.Type
	h["Docker-Content-Digest"] = m.Header.Digest
	h["Etag"] = m.Header.ETag
	h["Cache-Control"] = cacheControl
	h["X-Content-Type-Options"] = noSniff
	if a.remote {
		h["X-Azure-Origin"] = fromUpstream
	}
	if m.Body != nil && r.Header["Range"] != nil {
		serveContent(w, r, m.Header.ETag[0], m.Size, bytes.NewReader(m.Body))
		return
	}
	if unmodified(r, m.Header.ETag[0]) {
		delete(h, "Content-Type")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h["Content-Length"] = m.Header.Length
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(m.Body)
	}
}

// unmodified evaluates If-None-Match.
func unmodified(r *http.Request, etag string) bool {
	for _, v := range r.Header["If-None-Match"] {
		for t := range strings.SplitSeq(v, ",") {
			if t = strings.TrimPrefix(strings.TrimSpace(t), "W/"); t == etag || t == "*" {
				return true
			}
		}
	}
	return false
}

// serveBlob writes a blob, or what of it was asked for.
// An error means that the header is out, or may be, and the body is not whole.
func serveBlob(w *recorder, r *http.Request, digest string, a *blobAnswer) error {
	h := w.Header()
	h["Content-Type"] = octetStreams
	values := a.header(digest)
	etag := values.etag[0]
	h["Docker-Content-Digest"], h["Etag"] = values.digest, values.etag
	h["Cache-Control"] = cacheControl
	h["X-Content-Type-Options"] = noSniff
	if a.remote {
		h["X-Azure-Origin"] = fromUpstream
	}
	if a.file != nil && wantsAll(r) {
		if r.Method == http.MethodHead || !w.addsLength(a.size) {
			h["Content-Length"] = values.length
		}
		serveStored(w, r, a)
		return nil
	}
	if a.file != nil {
		serveContent(w, r, etag, a.size, a.file)
		return nil
	}
	h["Accept-Ranges"] = byteRanges
	if unmodified(r, etag) {
		delete(h, "Content-Type")
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	ranges, err := wanted(r, etag, a.size)
	if err != nil {
		outside(w, r, a.size)
		return nil
	}
	s := &sender{ctx: r.Context(), w: w, a: *a, head: r.Method == http.MethodHead}
	switch len(ranges) {
	case 0:
		return s.whole()
	case 1:
		return s.one(ranges[0])
	}
	return s.several(ranges)
}

// wantsAll reports whether a request has no condition and wants no part.
func wantsAll(r *http.Request) bool {
	h := r.Header
	return h["Range"] == nil && h["If-None-Match"] == nil && h["If-Match"] == nil
}

// serveStored writes the whole of a stored blob.
func serveStored(w http.ResponseWriter, r *http.Request, a *blobAnswer) {
	w.Header()["Accept-Ranges"] = byteRanges
	w.WriteHeader(http.StatusOK)
	switch m, ok := a.file.(*memoryReader); {
	case r.Method == http.MethodHead:
	case ok:
		_, _ = w.Write(m.blob.data)
	default:
		_, _ = io.CopyN(w, a.file, a.size) // a body that is not whole ends the connection
	}
}

// serveContent writes what is here, or what of it was asked for, by the same rules
// as what is on its way: [http.ServeContent] has rules of its own for ranges, and
// gets none that it would judge differently.
func serveContent(w http.ResponseWriter, r *http.Request, etag string, size int64, content io.ReadSeeker) {
	if r.Header["Range"] != nil {
		ranges, err := wanted(r, etag, size)
		if err != nil {
			outside(w, r, size)
			return
		}
		r = withRanges(r, ranges)
	}
	http.ServeContent(w, r, "", time.Time{}, content)
}

// withRanges is the request for just these ranges; none: for everything.
func withRanges(r *http.Request, ranges []route.Range) *http.Request {
	plain := *r
	plain.Header = maps.Clone(r.Header)
	delete(plain.Header, "Range")
	delete(plain.Header, "If-Range")
	if len(ranges) > 0 {
		texts := make([]string, len(ranges))
		for i, one := range ranges {
			texts[i] = fmt.Sprintf("%d-%d", one.Start, one.Start+one.Length-1)
		}
		plain.Header.Set("Range", "bytes="+strings.Join(texts, ","))
	}
	return &plain
}

// outside answers a range that lies beyond the end.
func outside(w http.ResponseWriter, r *http.Request, size int64) {
	w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", size))
	e := &Error{Status: http.StatusRequestedRangeNotSatisfiable, Code: CodeUnknown, Message: fmt.Sprintf("the range lies outside of the content, which has %d bytes", size)}
	e.write(w, r.Method == http.MethodHead)
}

// wanted evaluates Range and If-Range. None means everything.
func wanted(r *http.Request, etag string, size int64) ([]route.Range, error) {
	header := r.Header.Get("Range")
	if header == "" || size < 0 || r.Method != http.MethodGet {
		return nil, nil
	}
	if c := r.Header.Get("If-Range"); c != "" && c != etag {
		return nil, nil
	}
	ranges, err := route.ParseRange(header, size)
	if errors.Is(err, route.ErrUnsatisfiable) {
		return nil, err
	}
	if err != nil {
		return nil, nil // what cannot be read is ignored (RFC 9110, 14.2)
	}
	return ranges, nil
}

// sender writes from a flight.
type sender struct {
	ctx  context.Context
	w    http.ResponseWriter
	a    blobAnswer
	head bool
}

func (s *sender) flush() { _ = http.NewResponseController(s.w).Flush() }

func (s *sender) whole() error {
	if s.a.size >= 0 {
		s.w.Header()["Content-Length"] = []string{strconv.FormatInt(s.a.size, 10)}
	}
	s.w.WriteHeader(http.StatusOK)
	if s.head || s.a.flight == nil {
		return nil
	}
	_, err := s.a.flight.Send(s.ctx, s.w, s.flush, 0, s.a.size, true)
	return err
}

func (s *sender) one(r route.Range) error {
	h := s.w.Header()
	h["Content-Length"] = []string{strconv.FormatInt(r.Length, 10)}
	h.Set("Content-Range", contentRange(r, s.a.size))
	s.w.WriteHeader(http.StatusPartialContent)
	whole := r.Start == 0 && r.Length == s.a.size
	_, err := s.a.flight.Send(s.ctx, s.w, s.flush, r.Start, r.Length, whole)
	return err
}

func contentRange(r route.Range, size int64) string {
	return fmt.Sprintf("bytes %d-%d/%d", r.Start, r.Start+r.Length-1, size)
}

// several answers with multipart/byteranges.
func (s *sender) several(ranges []route.Range) error {
	m := multipart.NewWriter(s.w)
	s.w.Header()["Content-Type"] = []string{"multipart/byteranges; boundary=" + m.Boundary()}
	s.w.WriteHeader(http.StatusPartialContent)
	for _, r := range ranges {
		part, err := m.CreatePart(textproto.MIMEHeader{
			"Content-Type": {octetStream}, "Content-Range": {contentRange(r, s.a.size)},
		})
		if err != nil {
			return err
		}
		if _, err := s.a.flight.Send(s.ctx, part, s.flush, r.Start, r.Length, false); err != nil {
			return err
		}
	}
	return m.Close()
}

// abort ends a response that cannot be finished, in a way that no client takes
// for its end: also behind a middleware that swallows panics.
func abort(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Unix(1, 0))
	panic(http.ErrAbortHandler)
}
