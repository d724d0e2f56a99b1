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

	"github.com/pullthrough/pullthrough/internal/route"
)

// Blob implements [Repository]. For the whole blob it sends no Range. It refuses a part
// that was not asked for and one in several pieces; if the whole comes in place of a
// part, the [Body] says so. It never delivers more of a part than was asked for.
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
	ctx, o := r.begin(ctx, OpBlob, d.String())
	resp, err := r.requests.do(ctx, c)
	if err != nil {
		o.end(&err)
		return Body{}, err
	}
	b, err := extent(resp.Response, ranged, offset, length)
	if err != nil {
		resp.close()
		err = r.failures.unusable(c.op, resp.Response, err)
		o.end(&err)
		return Body{}, err
	}
	b.ReadCloser = &blobReader{failures: r.failures, op: c.op, response: resp, operation: o, remaining: b.Length}
	return b, nil
}

// extent returns which part of the blob a response holds, or the error that makes it
// unusable. ranged says that a Range was sent.
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
	part, ok := route.ParseContentRange(resp.Header.Get("Content-Range"))
	if !ok {
		return Body{}, errors.New("a part without a Content-Range that can be read")
	}
	if part.First != offset {
		return Body{}, fmt.Errorf("bytes from %d, though those from %d were asked for", part.First, offset)
	}
	n := part.Last - part.First + 1
	if resp.ContentLength >= 0 && resp.ContentLength != n {
		return Body{}, fmt.Errorf("%d bytes, though Content-Range says %d", resp.ContentLength, n)
	}
	if length > 0 {
		n = min(n, length)
	}
	return Body{Offset: offset, Length: n, Size: part.Size}, nil
}

// blobReader reads the content of a blob. It ends after the announced length; an end
// before that is an error.
type blobReader struct {
	failures  *failures
	op        string
	response  *response
	operation *operation
	remaining int64 // -1 if the length was not announced
}

// Read implements [io.Reader]. A body that ends early is [io.ErrUnexpectedEOF]; every
// other error is an [*Error].
func (b *blobReader) Read(p []byte) (int, error) {
	n, err := b.read(p)
	if err != nil && err != io.EOF {
		b.operation.failed(err)
	}
	return n, err
}

func (b *blobReader) read(p []byte) (int, error) {
	if b.remaining == 0 {
		return 0, io.EOF
	}
	if b.remaining > 0 && int64(len(p)) > b.remaining {
		p = p[:b.remaining]
	}
	n, err := b.response.Body.Read(p)
	if b.remaining > 0 {
		b.remaining -= int64(n)
	}
	switch {
	case err == nil:
		return n, nil
	case b.remaining == 0:
		return n, io.EOF
	case err == io.EOF && b.remaining < 0:
		return n, io.EOF
	case err == io.EOF, errors.Is(err, io.ErrUnexpectedEOF):
		return n, io.ErrUnexpectedEOF
	}
	return n, b.failures.failed(b.response.Request.Context(), b.op, &bodyError{err})
}

// Close closes the body and ends the call.
func (b *blobReader) Close() error {
	err := b.response.Body.Close()
	b.response.limit.end()
	b.operation.end(new(error))
	return err
}

// StatBlob implements [Repository]. A response that is a page for people, such as the
// sign-on page of a proxy, is [ErrIncomplete].
func (r *repository) StatBlob(ctx context.Context, d digest.Digest) (desc ocispec.Descriptor, err error) {
	ctx, o := r.begin(ctx, OpStatBlob, d.String())
	defer o.end(&err)
	if err := checkDigest(d); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("upstream: blob %q: %w", d, err)
	}
	op := "HEAD blob " + d.String()
	resp, err := r.requests.do(ctx, call{op: op, method: http.MethodHead, path: "blobs/" + d.String()})
	if e, ok := errors.AsType[*Error](err); ok && staysHome(ctx) && isRedirect(e.Status) {
		return ocispec.Descriptor{}, ErrIncomplete
	}
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer resp.close()
	if resp.StatusCode != http.StatusOK {
		return ocispec.Descriptor{}, r.failures.unusable(op, resp.Response, errPart)
	}
	if _, err := digestHeader(resp.Header, d); err != nil {
		return ocispec.Descriptor{}, r.failures.unusable(op, resp.Response, err)
	}
	if isPage(mediaType(resp.Header)) {
		return ocispec.Descriptor{}, ErrIncomplete
	}
	size := resp.ContentLength
	if size == 0 && d != d.Algorithm().FromBytes(nil) || checkEncoding(resp.Header) != nil {
		size = -1
	}
	return ocispec.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: size}, nil
}
