package oci

import (
	"strconv"
	"sync/atomic"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Content is a verified manifest: its bytes, what they say, and the headers with which
// it is served. It never changes, but for when it was read, and is safe for concurrent
// use.
type Content struct {
	ocispec.Descriptor        // only its media type, digest and size
	Body               []byte // nil if only the descriptor is known
	// From is where it comes from: scheme://host/repository.
	From string
	// Parsed is what the body says. A body that cannot be parsed has a Parsed with Bad;
	// without a body, Parsed is nil.
	Parsed *Manifest
	// Header holds the values of headers.
	Header Header

	read atomic.Int64 // when a client read it last by its digest, in unix nanoseconds
	used atomic.Int64 // the same for a client that pulled it in any way
}

// Header holds the values of the headers of a manifest, made once.
type Header struct{ Type, Length, Digest, ETag []string }

// NewContent returns the manifest of a descriptor. The caller has verified body, which
// must not be changed; it is nil if only the descriptor is known.
func NewContent(desc ocispec.Descriptor, body []byte, from string) *Content {
	c := &Content{Body: body, From: from}
	c.MediaType, c.Digest, c.Size = desc.MediaType, desc.Digest, desc.Size
	d := desc.Digest.String()
	c.Header = Header{
		Type: []string{desc.MediaType}, Length: []string{strconv.FormatInt(desc.Size, 10)},
		Digest: []string{d}, ETag: []string{`"` + d + `"`},
	}
	if body != nil {
		var err error
		if c.Parsed, err = Parse(desc.MediaType, body); err != nil {
			c.Parsed = &Manifest{Bad: err}
		}
	}
	return c
}

// At is the same manifest as it comes from somewhere.
func (c *Content) At(from string) *Content {
	if c.From == from {
		return c
	}
	there := &Content{Descriptor: c.Descriptor, Body: c.Body, From: from, Parsed: c.Parsed, Header: c.Header}
	there.read.Store(c.read.Load())
	there.used.Store(c.used.Load())
	return there
}

// MarkRead notes that a client reads the manifest now, by its digest.
func (c *Content) MarkRead() {
	now := time.Now().UnixNano()
	c.read.Store(now)
	c.used.Store(now)
}

// MarkUsed notes that a client pulls the manifest now, by a tag.
func (c *Content) MarkUsed() { c.used.Store(time.Now().UnixNano()) }

// ReadAfter reports whether a client has read the manifest after a time.
func (c *Content) ReadAfter(t time.Time) bool { return time.Unix(0, c.read.Load()).After(t) }

// Cost is about how many bytes of memory the manifest takes: its body, and what was
// parsed of it, whose texts are copies and whose descriptors are larger than the
// shortest text of one.
func (c *Content) Cost() int64 {
	cost := 512 + 2*int64(len(c.Body))
	if c.Parsed != nil {
		cost += int64(len(c.Parsed.Layers)+len(c.Parsed.Manifests)) * 256
	}
	return cost
}

// LastUse is when a client pulled the manifest last; zero if none did.
func (c *Content) LastUse() time.Time {
	if n := c.used.Load(); n != 0 {
		return time.Unix(0, n)
	}
	return time.Time{}
}
