package flight

import (
	"context"
	"errors"
	"io"
	"net/url"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/upstream"
)

// fault is how one connection of the fake upstream misbehaves.
type fault struct {
	err      error         // instead of an answer
	silent   bool          // no answer at all
	ignore   bool          // everything from byte 0, as a 200
	shift    int64         // the range begins so much later
	size     int64         // claims this size; 0: the right one
	noSize   bool          // does not tell the size
	noLength bool          // nor how much follows
	cut      int64         // breaks off after so many bytes; -1: at once
	clean    bool          // and that looks like the end
	hang     bool          // falls silent there instead
	hush     time.Duration // and goes on after so long, or breaks off if hang
	extra    int64         // sends so many bytes more than there are
	flip     int64         // byte flip-1 of the blob is wrong
	step     int           // bytes for each read; 0: as many as fit
	pause    time.Duration // before each read
	via      string        // another cache sends it
}

// request is one call of Blob.
type request struct{ offset, length int64 }

// registry is a fake upstream.Repository with one blob.
type registry struct {
	data []byte
	// each tells how connection n, from 0 on, misbehaves; nil: not at all.
	each func(n int, offset int64) fault
	// latency is how long each answer takes.
	latency time.Duration
	// gone is returned when the rule is asked.
	gone  func() error
	heads bool // HEAD is served too
	// shared makes all bodies together as fast as one of them would be.
	shared bool

	mu    sync.Mutex
	asked []request
	stats int
	opens int
	sent  []span // that were sent
	total int64
	open  int // bodies that are not closed
}

func (r *registry) Resolve(context.Context, string) (d ocispec.Descriptor, err error) {
	return d, errors.ErrUnsupported
}

func (r *registry) Manifest(context.Context, string) (d ocispec.Descriptor, b []byte, err error) {
	return d, nil, errors.ErrUnsupported
}

func (r *registry) Tags(context.Context, url.Values) (p upstream.TagPage, err error) {
	return p, errors.ErrUnsupported
}

// StatBlob refuses, as registries do that serve GET alone, unless heads: no download
// depends on a HEAD.
func (r *registry) StatBlob(context.Context, digest.Digest) (ocispec.Descriptor, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats++
	if r.heads {
		return ocispec.Descriptor{Size: int64(len(r.data))}, nil
	}
	return ocispec.Descriptor{}, problem(upstream.Denied, 403)
}

func (r *registry) Blob(ctx context.Context, _ digest.Digest, offset, length int64) (upstream.Body, error) {
	size := int64(len(r.data))
	r.mu.Lock()
	n := len(r.asked)
	r.asked = append(r.asked, request{offset, length})
	r.mu.Unlock()
	time.Sleep(r.latency)
	var f fault
	if r.each != nil {
		f = r.each(n, offset)
	}
	switch {
	case f.silent:
		<-ctx.Done()
		return upstream.Body{}, problem(upstream.Unreachable, 0)
	case f.err != nil:
		return upstream.Body{}, f.err
	case length == 0 || length < -1:
		return upstream.Body{}, errors.New("a request for no bytes")
	case offset >= size && size > 0 && !f.ignore:
		return upstream.Body{}, problem(upstream.Protocol, 416)
	}
	from, to := offset+f.shift, size
	if length > 0 {
		to = min(to, offset+length)
	}
	if f.ignore {
		from, to = 0, size
	}
	b := &stream{r: r, f: f, ctx: ctx, at: from, end: to, left: -1}
	if f.cut != 0 {
		b.left = max(0, f.cut)
	}
	body := upstream.Body{ReadCloser: b, Offset: from, Length: to - from, Size: size, Via: f.via}
	if f.size != 0 {
		body.Size = f.size
	}
	if f.noSize {
		body.Size = -1
	}
	if f.noLength {
		body.Length = -1
	}
	r.mu.Lock()
	r.open++
	r.mu.Unlock()
	return body, nil
}

// stream is a body.
type stream struct {
	r       *registry
	f       fault
	ctx     context.Context
	at, end int64
	left    int64 // before it is cut; -1: it is not
	extra   int64
	closed  bool
}

func (b *stream) Close() error {
	b.r.mu.Lock()
	defer b.r.mu.Unlock()
	if !b.closed {
		b.closed = true
		b.r.open--
	}
	return nil
}

func (b *stream) Read(p []byte) (int, error) {
	if pause := b.f.pause; pause > 0 {
		if b.r.shared {
			b.r.mu.Lock()
			pause *= time.Duration(b.r.open)
			b.r.mu.Unlock()
		}
		_ = nap(b.ctx, pause)
	}
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	if b.f.step > 0 {
		p = p[:min(len(p), b.f.step)]
	}
	if b.left == 0 {
		switch {
		case b.f.hush > 0:
			_ = nap(b.ctx, b.f.hush)
			if b.f.hang {
				return 0, io.ErrUnexpectedEOF
			}
			b.left = -1
			return b.Read(p)
		case b.f.hang:
			<-b.ctx.Done()
			return 0, b.ctx.Err()
		case b.f.clean:
			return 0, io.EOF
		}
		return 0, io.ErrUnexpectedEOF
	}
	if b.at == b.end {
		if b.extra < b.f.extra {
			n := min(int64(len(p)), b.f.extra-b.extra)
			b.extra += n
			return int(n), nil
		}
		return 0, io.EOF
	}
	n := min(int64(len(p)), b.end-b.at)
	if b.left >= 0 {
		n = min(n, b.left)
		b.left -= n
	}
	copy(p[:n], b.r.data[b.at:])
	if i := b.f.flip - 1; i >= b.at && i < b.at+n {
		p[i-b.at] ^= 1
	}
	b.r.mu.Lock()
	b.r.sent = append(b.r.sent, span{b.at, b.at + n})
	b.r.total += n
	b.r.mu.Unlock()
	b.at += n
	return int(n), nil
}

func problem(c upstream.Class, status int) *upstream.Error {
	return &upstream.Error{Op: "GET blob", Class: c, Status: status}
}
