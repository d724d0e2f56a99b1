package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Blob implements [Repository]. From offset 0 to the end no Range is sent. A
// part that is not what was asked for, and one in several pieces, is refused;
// the whole in place of a part is reported as such. More than was asked for is
// never delivered.
func (r *repository) Blob(ctx context.Context, d digest.Digest, offset, length int64) (Body, error) {
	if err := checkDigest(d); err != nil {
		return Body{}, fmt.Errorf("upstream: blob %q: %w", d, err)
	}
	if offset < 0 || length == 0 || length < -1 || length > 0 && offset+length < 0 {
		return Body{}, fmt.Errorf("upstream: blob %s: impossible range: %d bytes from %d", d, length, offset)
	}
	c := call{op: "GET blob " + d.String(), method: http.MethodGet, path: "blobs/" + d.String(), header: http.Header{}, stream: true}
	ranged := offset > 0 || length > 0
	if ranged {
		value := fmt.Sprintf("bytes=%d-", offset)
		if length > 0 {
			value += strconv.FormatInt(offset+length-1, 10)
		}
		c.header.Set("Range", value)
	}
	a, err := r.do(ctx, c)
	if err != nil {
		return Body{}, err
	}
	b, err := extent(a.Response, ranged, offset, length)
	if err != nil {
		defer a.close()
		return Body{}, r.protocol(c.op, a.Response, err)
	}
	b.ReadCloser = &blobReader{repository: r, op: c.op, answer: a, left: b.Length}
	return b, nil
}

// extent says what an answer brings: the whole, or the part that was asked for.
func extent(resp *http.Response, ranged bool, offset, length int64) (Body, error) {
	if resp.StatusCode == http.StatusOK {
		return Body{Offset: 0, Length: resp.ContentLength, Size: resp.ContentLength}, nil
	}
	if !ranged {
		return Body{}, errPart
	}
	if strings.HasPrefix(mediaType(resp.Header), "multipart/") {
		return Body{}, errors.New("a part in several pieces")
	}
	cr, err := parseContentRange(resp.Header.Get("Content-Range"))
	if err != nil {
		return Body{}, err
	}
	if cr.first != offset {
		return Body{}, fmt.Errorf("bytes from %d, though those from %d were asked for", cr.first, offset)
	}
	n := cr.last - cr.first + 1
	if resp.ContentLength >= 0 && resp.ContentLength != n {
		return Body{}, fmt.Errorf("%d bytes, though Content-Range says %d", resp.ContentLength, n)
	}
	if length > 0 {
		n = min(n, length)
	}
	return Body{Offset: offset, Length: n, Size: cr.size}, nil
}

// contentRange is what Content-Range says of a part; size -1: unknown.
type contentRange struct{ first, last, size int64 }

// parseContentRange reads Content-Range of a 206 (RFC 9110 section 14.4).
func parseContentRange(s string) (contentRange, error) {
	bad := errors.New("a part without a Content-Range that can be read")
	unit, rest, ok := strings.Cut(strings.TrimSpace(s), " ")
	if !ok || !strings.EqualFold(unit, "bytes") {
		return contentRange{}, bad
	}
	span, size, ok := strings.Cut(strings.TrimSpace(rest), "/")
	first, last, ok2 := strings.Cut(span, "-")
	if !ok || !ok2 {
		return contentRange{}, bad
	}
	var cr contentRange
	var ok3 bool
	if cr.first, ok = position(first); !ok {
		return contentRange{}, bad
	}
	if cr.last, ok2 = position(last); !ok2 || cr.last < cr.first {
		return contentRange{}, bad
	}
	if size == "*" {
		cr.size = -1
	} else if cr.size, ok3 = position(size); !ok3 || cr.size <= cr.last {
		return contentRange{}, bad
	}
	return cr, nil
}

// position reads digits and nothing but digits.
func position(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n < 1<<62
}

// blobReader reads the content of a blob and ends where was announced: not
// after, and not before without an error.
type blobReader struct {
	repository *repository
	op         string
	answer     *answer
	left       int64 // -1: unknown
}

// Read reads. An end that comes early is [io.ErrUnexpectedEOF], everything else
// that goes wrong an [*Error].
func (b *blobReader) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	if b.left > 0 && int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.answer.Body.Read(p)
	if b.left > 0 {
		b.left -= int64(n)
	}
	switch {
	case err == nil:
		return n, nil
	case b.left == 0:
		return n, io.EOF
	case err == io.EOF && b.left < 0:
		return n, io.EOF
	case err == io.EOF, errors.Is(err, io.ErrUnexpectedEOF):
		return n, io.ErrUnexpectedEOF
	}
	return n, b.repository.fail(b.answer.Request.Context(), b.op, &bodyError{err})
}

// Close ends the request.
func (b *blobReader) Close() error {
	err := b.answer.Body.Close()
	b.answer.release()
	return err
}

// StatBlob implements [Repository]. A page for people, such as that of a proxy
// which wants somebody to sign on, is [ErrIncomplete].
func (r *repository) StatBlob(ctx context.Context, d digest.Digest) (ocispec.Descriptor, error) {
	if err := checkDigest(d); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("upstream: blob %q: %w", d, err)
	}
	op := "HEAD blob " + d.String()
	a, err := r.do(ctx, call{op: op, method: http.MethodHead, path: "blobs/" + d.String()})
	if e, ok := errors.AsType[*Error](err); ok && staysHome(ctx) && redirects(e.Status) {
		return ocispec.Descriptor{}, ErrIncomplete
	}
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer a.close()
	if a.StatusCode != http.StatusOK {
		return ocispec.Descriptor{}, r.protocol(op, a.Response, errPart)
	}
	if _, err := digestHeader(a.Header, d); err != nil {
		return ocispec.Descriptor{}, r.protocol(op, a.Response, err)
	}
	if isPage(mediaType(a.Header)) {
		return ocispec.Descriptor{}, ErrIncomplete
	}
	size := a.ContentLength
	if size == 0 && d != d.Algorithm().FromBytes(nil) || identity(a.Header) != nil {
		size = -1
	}
	return ocispec.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: size}, nil
}
