package oci

import (
	"strconv"
	"sync/atomic"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Content is a verified manifest: its bytes, their parsed form, and the headers with
// which it is served. Only the times at which clients last read it change. It is safe
// for concurrent use.
type Content struct {
	ocispec.Descriptor        // only its media type, digest and size
	Body               []byte // nil if only the descriptor is known
	// From is the repository that it comes from: scheme://host/repository.
	From string
	// Parsed is the parsed body, or nil without a body. If the body cannot be parsed,
	// only Parsed.Bad is set.
	Parsed *Manifest
	// Header holds the values of its headers.
	Header Header

	read atomic.Int64 // when a client last read it by its digest, in unix nanoseconds
	used atomic.Int64 // when a client last pulled it by a tag or its digest, likewise
}

// Header holds the header values of a manifest, so that they are made only once.
type Header struct{ Type, Length, Digest, ETag []string }

// NewContent returns the manifest of a descriptor. The caller must have verified body
// and must not change it. body is nil if only the descriptor is known.
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

// At returns the manifest with another From.
func (c *Content) At(from string) *Content {
	if c.From == from {
		return c
	}
	other := &Content{Descriptor: c.Descriptor, Body: c.Body, From: from, Parsed: c.Parsed, Header: c.Header}
	other.read.Store(c.read.Load())
	other.used.Store(c.used.Load())
	return other
}

// MarkRead notes that a client reads the manifest by its digest now. It reports whether
// that is the first use in this hour.
func (c *Content) MarkRead() (first bool) {
	now := time.Now().UnixNano()
	c.read.Store(now)
	return c.use(now)
}

// MarkUsed notes that a client pulled the manifest by a tag at that time. It reports whether
// that is the first use in its hour.
func (c *Content) MarkUsed(now time.Time) (first bool) { return c.use(now.UnixNano()) }

func (c *Content) use(now int64) (first bool) {
	return c.used.Swap(now)/int64(time.Hour) != now/int64(time.Hour)
}

// ReadAfter reports whether a client has read the manifest by its digest after t.
func (c *Content) ReadAfter(t time.Time) bool { return time.Unix(0, c.read.Load()).After(t) }

// Cost returns about how many bytes of memory the manifest takes: its body, and its
// parsed form, whose strings are copies and whose descriptors take more memory than the
// shortest JSON of one.
func (c *Content) Cost() int64 {
	cost := 512 + 2*int64(len(c.Body))
	if c.Parsed != nil {
		cost += int64(len(c.Parsed.Layers)+len(c.Parsed.Manifests)) * 256
	}
	return cost
}

// LastUse returns when a client last pulled the manifest, or the zero time if none did.
func (c *Content) LastUse() time.Time {
	if n := c.used.Load(); n != 0 {
		return time.Unix(0, n)
	}
	return time.Time{}
}
