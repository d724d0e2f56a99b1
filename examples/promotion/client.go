package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
)

// client pulls from the production registry over HTTP, as a container runtime
// does. It keeps nothing: every pull asks for everything.
type client struct {
	http *http.Client
	base string    // scheme://host:port
	seen io.Writer // gets every answer whole
}

func newClient(base string, seen io.Writer) *client {
	return &client{http: &http.Client{Transport: &http.Transport{}}, base: base, seen: seen}
}

// answer is what the client saw of one request.
type answer struct {
	what   string // index, manifest, config or layer
	size   int64
	state  string // Cache-Status, without the cache's name
	origin string // X-Azure-Origin
}

// pull is what the client saw of one pull.
type pull struct {
	index   digest.Digest // what the tag stands for
	answers []answer      // index, manifest, config, layers
}

// pull pulls an image for one architecture by its tag. Everything is checked
// against size and digest. The function begun, which may be nil, is called when
// the first bytes of the first layer are there.
func (c *client) pull(ctx context.Context, repository, tag, arch string, begun func()) (p pull, err error) {
	var index ocispec.Index
	var image ocispec.Manifest
	path := "/v2/" + repository
	body, err := p.add(c.get(ctx, "index", path+"/manifests/"+tag, ocispec.Descriptor{}, nil))
	if err != nil {
		return p, err
	}
	p.index = digest.FromBytes(body)
	if err := json.Unmarshal(body, &index); err != nil {
		return p, err
	}
	for _, d := range index.Manifests {
		if d.Platform == nil || d.Platform.Architecture != arch {
			continue
		}
		if body, err = p.add(c.get(ctx, "manifest", path+"/manifests/"+d.Digest.String(), d, nil)); err != nil {
			return p, err
		}
		if err := json.Unmarshal(body, &image); err != nil {
			return p, err
		}
	}
	if len(image.Layers) == 0 {
		return p, fmt.Errorf("there is no image for %s", arch)
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
	return p, nil
}

// add notes an answer and passes its body on.
func (p *pull) add(a answer, body []byte, err error) ([]byte, error) {
	p.answers = append(p.answers, a)
	return body, err
}

// get asks for one thing, which must be what the descriptor says unless that is
// empty. Any status but 200 is a *refusal.
func (c *client) get(ctx context.Context, what, path string, want ocispec.Descriptor, begun func()) (answer, []byte, error) {
	a := answer{what: what}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return a, nil, err
	}
	req.Header.Set("Accept", ocispec.MediaTypeImageIndex+", "+ocispec.MediaTypeImageManifest)
	resp, err := c.http.Do(req)
	if err != nil {
		return a, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	_, a.state, _ = strings.Cut(resp.Header.Get("Cache-Status"), "; ")
	a.origin = resp.Header.Get("X-Azure-Origin")
	in := bufio.NewReader(resp.Body)
	if _, err := in.Peek(1); err == nil && begun != nil {
		begun()
	}
	var body []byte
	if want.Digest == "" || resp.StatusCode != http.StatusOK {
		body, err = io.ReadAll(in)
	} else {
		body, err = content.ReadAll(in, want)
	}
	a.size = int64(len(body))
	_, _ = fmt.Fprintf(c.seen, "%s %v", resp.Status, resp.Header)
	_, _ = c.seen.Write(body)
	switch {
	case ctx.Err() != nil: // the connection was closed for it, which the error may tell
		return a, nil, fmt.Errorf("%s: %w", path, ctx.Err())
	case err != nil:
		return a, nil, fmt.Errorf("%s: %w", path, err)
	case resp.StatusCode != http.StatusOK:
		return a, nil, newRefusal(resp.StatusCode, body)
	}
	return a, body, nil
}

// refusal is an answer of the registry that is an error.
type refusal struct {
	status        int
	code, message string
}

// newRefusal reads the error envelope of the distribution spec.
func newRefusal(status int, body []byte) *refusal {
	var envelope struct {
		Errors []struct{ Code, Message string }
	}
	r := &refusal{status: status, message: string(body)}
	if json.Unmarshal(body, &envelope) == nil && len(envelope.Errors) > 0 {
		r.code, r.message = envelope.Errors[0].Code, envelope.Errors[0].Message
	}
	return r
}

// Error is what a user sees.
func (r *refusal) Error() string { return fmt.Sprintf("%d %s: %s", r.status, r.code, r.message) }
