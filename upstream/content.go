package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	_ "crypto/sha256" // digests of these algorithms only validate if they are linked
	_ "crypto/sha512"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	schema1        = "application/vnd.docker.distribution.manifest.v1"
)

// accept lists what is asked for, always the same: what is stored must not
// depend on who pulled first.
func accept() http.Header {
	return http.Header{"Accept": {strings.Join([]string{
		ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, dockerManifest, dockerIndex}, ", ")}}
}

// mediaType checks the type of a manifest.
func mediaType(h http.Header) (string, error) {
	t, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	switch {
	case err == nil && strings.HasPrefix(t, schema1):
		return "", errors.New("it is a Docker schema 1 manifest, which is not supported")
	case err == nil && (t == ocispec.MediaTypeImageManifest || t == ocispec.MediaTypeImageIndex || t == dockerManifest || t == dockerIndex):
		return t, nil
	}
	return "", fmt.Errorf("its type %q is not that of a manifest", h.Get("Content-Type"))
}

// known parses a digest of an algorithm that can be verified.
func known(s string) (digest.Digest, error) {
	d := digest.Digest(s)
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("digest %q: %w", s, err)
	}
	if a := d.Algorithm(); a != digest.SHA256 && a != digest.SHA512 {
		return "", fmt.Errorf("digest algorithm %q is not supported", a)
	}
	return d, nil
}

// Resolve sends HEAD.
func (r *repository) Resolve(ctx context.Context, reference string) (ocispec.Descriptor, error) {
	op := "HEAD manifest " + reference
	resp, err := r.do(ctx, op, http.MethodHead, "/manifests/"+reference, nil, accept())
	if err != nil {
		if e, ok := errors.AsType[*Error](err); ok && (e.Status == http.StatusMethodNotAllowed || e.Status == http.StatusNotImplemented) {
			return ocispec.Descriptor{}, ErrIncomplete
		}
		return ocispec.Descriptor{}, err
	}
	_ = resp.Body.Close()
	t, typeErr := mediaType(resp.Header)
	if typeErr != nil && strings.HasPrefix(resp.Header.Get("Content-Type"), schema1) {
		return ocispec.Descriptor{}, r.bad(op, typeErr)
	}
	d, err := known(resp.Header.Get("Docker-Content-Digest"))
	if strings.Contains(reference, ":") { // the reference says it already
		if err == nil && d.String() != reference {
			return ocispec.Descriptor{}, r.bad(op, fmt.Errorf("it answers with %s", d))
		}
		d, err = known(reference)
	}
	if err != nil || typeErr != nil || resp.ContentLength < 0 {
		return ocispec.Descriptor{}, ErrIncomplete
	}
	if resp.ContentLength > MaxManifestSize {
		return ocispec.Descriptor{}, r.bad(op, fmt.Errorf("the manifest is %d bytes long, more than %d", resp.ContentLength, MaxManifestSize))
	}
	return ocispec.Descriptor{MediaType: t, Digest: d, Size: resp.ContentLength}, nil
}

// Manifest sends GET and verifies.
func (r *repository) Manifest(ctx context.Context, reference string) (ocispec.Descriptor, []byte, error) {
	op := "GET manifest " + reference
	resp, err := r.do(ctx, op, http.MethodGet, "/manifests/"+reference, nil, accept())
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	defer resp.Body.Close()
	t, err := mediaType(resp.Header)
	if err != nil {
		return ocispec.Descriptor{}, nil, r.bad(op, err)
	}
	body, err := r.all(op, resp)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	d, err := verify(reference, resp.Header.Get("Docker-Content-Digest"), body)
	if err == nil {
		err = agree(t, body)
	}
	if err != nil {
		return ocispec.Descriptor{}, nil, r.bad(op, err)
	}
	return ocispec.Descriptor{MediaType: t, Digest: d, Size: int64(len(body))}, body, nil
}

// all reads an answer of bounded length.
func (r *repository) all(op string, resp *http.Response) ([]byte, error) {
	if resp.ContentLength > MaxManifestSize {
		return nil, r.bad(op, fmt.Errorf("the answer is %d bytes long, more than %d", resp.ContentLength, MaxManifestSize))
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxManifestSize+1))
	switch {
	case err != nil:
		return nil, r.failed(op, err)
	case len(body) > MaxManifestSize:
		return nil, r.bad(op, fmt.Errorf("the answer is longer than %d bytes", MaxManifestSize))
	}
	return body, nil
}

// verify returns the digest of a manifest: what was asked for, or what the
// upstream says that it is, if the bytes agree.
func verify(reference, header string, body []byte) (digest.Digest, error) {
	want := header
	if strings.Contains(reference, ":") {
		want = reference
	}
	if want == "" {
		return digest.SHA256.FromBytes(body), nil
	}
	d, err := known(want)
	if err != nil {
		return "", err
	}
	if got := d.Algorithm().FromBytes(body); got != d {
		return "", fmt.Errorf("the manifest hashes to %s, not to %s", got, d)
	}
	return d, nil
}

// agree checks that the JSON does not name another type than the header.
func agree(t string, body []byte) error {
	var m struct {
		SchemaVersion int    `json:"schemaVersion"`
		MediaType     string `json:"mediaType"`
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return fmt.Errorf("the manifest is no JSON object: %w", err)
	}
	if m.SchemaVersion == 1 {
		return errors.New("it is a Docker schema 1 manifest, which is not supported")
	}
	if m.MediaType != "" && m.MediaType != t {
		return fmt.Errorf("the manifest says that it is %q, the header says %q", m.MediaType, t)
	}
	return nil
}

// StatBlob sends HEAD.
func (r *repository) StatBlob(ctx context.Context, d digest.Digest) (ocispec.Descriptor, error) {
	resp, err := r.do(ctx, "HEAD blob "+d.String(), http.MethodHead, "/blobs/"+d.String(), nil, nil)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	_ = resp.Body.Close()
	return ocispec.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: resp.ContentLength}, nil
}

// Blob sends GET, with a Range unless everything is asked for.
func (r *repository) Blob(ctx context.Context, d digest.Digest, offset, length int64) (Body, error) {
	op := "GET blob " + d.String()
	var h http.Header
	if offset > 0 || length >= 0 {
		last := ""
		if length >= 0 {
			last = strconv.FormatInt(offset+length-1, 10)
		}
		h = http.Header{"Range": {"bytes=" + strconv.FormatInt(offset, 10) + "-" + last}}
	}
	resp, err := r.do(ctx, op, http.MethodGet, "/blobs/"+d.String(), nil, h)
	if err != nil {
		if e, ok := errors.AsType[*Error](err); ok && e.Status == http.StatusRequestedRangeNotSatisfiable {
			e.Class = Protocol
		}
		return Body{}, err
	}
	b := Body{Length: resp.ContentLength, Size: resp.ContentLength}
	switch {
	case resp.StatusCode == http.StatusPartialContent && h == nil:
		err = errors.New("it answers 206 without having been asked for a range")
	case resp.StatusCode == http.StatusPartialContent:
		var end int64
		b.Offset, end, b.Size, err = contentRange(resp.Header.Get("Content-Range"))
		b.Length = end - b.Offset + 1
		if err == nil && resp.ContentLength >= 0 && resp.ContentLength != b.Length {
			err = fmt.Errorf("Content-Range %q and Content-Length %d do not agree", resp.Header.Get("Content-Range"), resp.ContentLength)
		}
	case resp.StatusCode != http.StatusOK:
		err = fmt.Errorf("it answers %d", resp.StatusCode)
	}
	if err != nil {
		_ = resp.Body.Close()
		return Body{}, r.bad(op, err)
	}
	b.ReadCloser = &exact{resp.Body, b.Length}
	return b, nil
}

// exact reads as many bytes as were announced; fewer are an error.
type exact struct {
	io.ReadCloser
	left int64 // -1: not announced
}

func (e *exact) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	if e.left > 0 && int64(len(p)) > e.left {
		p = p[:e.left]
	}
	n, err := e.ReadCloser.Read(p)
	if e.left > 0 {
		e.left -= int64(n)
		switch {
		case e.left == 0:
			err = io.EOF // n bytes, and these were the last
		case errors.Is(err, io.EOF):
			err = io.ErrUnexpectedEOF
		}
	}
	return n, err
}

// contentRange parses a Content-Range header of bytes; size -1: "*".
func contentRange(v string) (start, end, size int64, err error) {
	bad := fmt.Errorf("Content-Range %q cannot be used", v)
	rest, ok := strings.CutPrefix(v, "bytes ")
	span, total, ok2 := strings.Cut(rest, "/")
	first, last, ok3 := strings.Cut(span, "-")
	if !ok || !ok2 || !ok3 {
		return 0, 0, 0, bad
	}
	size = -1
	start, e1 := digits(first)
	end, e2 := digits(last)
	if total != "*" {
		var e3 error
		if size, e3 = digits(total); e3 != nil {
			return 0, 0, 0, bad
		}
	}
	if e1 != nil || e2 != nil || end < start || size >= 0 && end >= size {
		return 0, 0, 0, bad
	}
	return start, end, size, nil
}

// digits parses a number that has no sign.
func digits(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err
}
