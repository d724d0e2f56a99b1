// Package puller pulls images over HTTP as container runtimes do, and reports what it
// received, for the stories of the examples. It stores nothing: every pull requests
// everything.
package puller

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
)

// Client pulls from one registry.
type Client struct {
	HTTP *http.Client
	Base string // scheme://host:port
	// Answered, if not nil, is called after each response with status 200.
	Answered func(Answer)
	// Seen, if not nil, receives the headers and the body of every response.
	Seen io.Writer
}

// New makes a client with connections of its own.
func New(base string) *Client {
	return &Client{HTTP: &http.Client{Transport: &http.Transport{}}, Base: base}
}

// Answer describes a response.
type Answer struct {
	What   string // index, manifest, config or layer
	Size   int64
	Took   time.Duration // until the last byte
	State  string        // Cache-Status, without the cache's name
	Origin string        // X-Azure-Origin
}

// Pull describes a pull.
type Pull struct {
	Index   digest.Digest // of the index that the tag points to
	Answers []Answer      // index, manifest, config, layers
	Took    time.Duration
}

// Blobs returns how many bytes the config and the layers have.
func (p Pull) Blobs() (n int64) {
	for _, a := range p.Answers {
		if a.What == "config" || a.What == "layer" {
			n += a.Size
		}
	}
	return n
}

// Pull pulls the image for one architecture by its tag: index, manifest, config and layers.
// It checks the size and digest of everything that a descriptor names. If begun is not nil,
// it is called when the first bytes of the first layer have arrived. If the registry
// responds with an error, the error is a [*Refusal].
func (c *Client) Pull(ctx context.Context, repository, tag, arch string, begun func()) (p Pull, err error) {
	start := time.Now()
	body, err := p.add(c.Index(ctx, repository, tag))
	if err != nil {
		return p, err
	}
	p.Index = digest.FromBytes(body)
	chosen, err := choose(body, arch)
	if err != nil {
		return p, err
	}
	path := "/v2/" + repository
	if body, err = p.add(c.get(ctx, "manifest", path+"/manifests/"+chosen.Digest.String(), chosen, nil)); err != nil {
		return p, err
	}
	var image ocispec.Manifest
	if err := json.Unmarshal(body, &image); err != nil {
		return p, err
	}
	if _, err := p.add(c.get(ctx, "config", path+"/blobs/"+image.Config.Digest.String(), image.Config, nil)); err != nil {
		return p, err
	}
	for _, d := range image.Layers {
		if _, err := p.add(c.get(ctx, "layer", path+"/blobs/"+d.Digest.String(), d, begun)); err != nil {
			return p, err
		}
		begun = nil
	}
	p.Took = time.Since(start)
	return p, nil
}

// add notes an answer, and returns body and err.
func (p *Pull) add(a Answer, body []byte, err error) ([]byte, error) {
	p.Answers = append(p.Answers, a)
	return body, err
}

// choose finds the manifest of an architecture.
func choose(body []byte, arch string) (ocispec.Descriptor, error) {
	var index ocispec.Index
	if err := json.Unmarshal(body, &index); err != nil {
		return ocispec.Descriptor{}, err
	}
	for _, d := range index.Manifests {
		if d.Platform != nil && d.Platform.Architecture == arch {
			return d, nil
		}
	}
	return ocispec.Descriptor{}, fmt.Errorf("there is no image for %s", arch)
}

// Index gets the index that a tag points to, and nothing else.
func (c *Client) Index(ctx context.Context, repository, tag string) (Answer, []byte, error) {
	return c.get(ctx, "index", "/v2/"+repository+"/manifests/"+tag, ocispec.Descriptor{}, nil)
}

// get gets a manifest or blob, which must match the descriptor unless that is empty. Any
// status but 200 is a *Refusal. begun may be nil.
func (c *Client) get(ctx context.Context, what, path string, want ocispec.Descriptor, begun func()) (Answer, []byte, error) {
	a := Answer{What: what}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Base+path, nil)
	if err != nil {
		return a, nil, err
	}
	req.Header.Set("Accept", ocispec.MediaTypeImageIndex+", "+ocispec.MediaTypeImageManifest)
	start := time.Now()
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return a, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	_, a.State, _ = strings.Cut(resp.Header.Get("Cache-Status"), "; ")
	a.Origin = resp.Header.Get("X-Azure-Origin")
	body, err := read(resp, want, begun)
	a.Size, a.Took = int64(len(body)), time.Since(start)
	if c.Seen != nil {
		_, _ = fmt.Fprintf(c.Seen, "%s %v", resp.Status, resp.Header)
		_, _ = c.Seen.Write(body)
	}
	switch {
	case ctx.Err() != nil: // err may only say that the connection was closed
		return a, nil, fmt.Errorf("%s: %w", path, ctx.Err())
	case err != nil:
		return a, nil, fmt.Errorf("%s: %w", path, err)
	case resp.StatusCode != http.StatusOK:
		return a, nil, newRefusal(resp.StatusCode, body)
	}
	if c.Answered != nil {
		c.Answered(a)
	}
	return a, body, nil
}

// maxBody is the most bytes that are read of a body of unknown size.
const maxBody = 4 << 20

// read reads a body. If begun is not nil, it is called at the first byte.
func read(resp *http.Response, want ocispec.Descriptor, begun func()) ([]byte, error) {
	in := bufio.NewReader(resp.Body)
	if _, err := in.Peek(1); err == nil && begun != nil {
		begun()
	}
	if want.Digest == "" || resp.StatusCode != http.StatusOK {
		return io.ReadAll(io.LimitReader(in, maxBody))
	}
	return content.ReadAll(in, want)
}

// Refusal is an error with which the registry responded.
type Refusal struct {
	Status        int
	Code, Message string
}

// newRefusal parses the error body of the distribution spec.
func newRefusal(status int, body []byte) *Refusal {
	var envelope struct {
		Errors []struct{ Code, Message string }
	}
	r := &Refusal{Status: status, Message: string(body)}
	if json.Unmarshal(body, &envelope) == nil && len(envelope.Errors) > 0 {
		r.Code, r.Message = envelope.Errors[0].Code, envelope.Errors[0].Message
	}
	return r
}

// Error returns status, code and message.
func (r *Refusal) Error() string { return fmt.Sprintf("%d %s: %s", r.Status, r.Code, r.Message) }
