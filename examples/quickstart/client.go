package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// client pulls images as docker and others do, with nothing but HTTP. It keeps
// nothing, so that every pull is a whole one.
type client struct {
	http    *http.Client
	base    string // http://host:port/v2/
	told    func(answer)
	arrived func(after time.Duration) // at the first byte of the first layer of a pull
}

// answer is what the client saw of one request.
type answer struct {
	what  string // index, manifest, config or layer
	bytes int64
	took  time.Duration
	state string // Cache-Status without the cache's name
}

// pulled is what the client saw of one pull.
type pulled struct {
	tag   answer // of the request for the tag
	blobs int64  // bytes of config and layers
	took  time.Duration
}

// pull pulls the image for linux/amd64 by its tag: index, manifest, config,
// layers. Everything is checked against its digest.
func (c *client) pull(ctx context.Context) (p pulled, err error) {
	begun := time.Now()
	var index, img manifest
	a, body, err := c.get(ctx, "index", "manifests/"+tag, "", nil)
	if err != nil {
		return p, err
	}
	p.tag = a
	if err := json.Unmarshal(body, &index); err != nil {
		return p, err
	}
	d, err := choose(index, "amd64")
	if err != nil {
		return p, err
	}
	if _, body, err = c.get(ctx, "manifest", "manifests/"+d.Digest, d.Digest, nil); err != nil {
		return p, err
	}
	if err := json.Unmarshal(body, &img); err != nil {
		return p, err
	}
	if img.Config == nil {
		return p, errors.New("the manifest has no config")
	}
	first := func() { c.arrived(time.Since(begun)) }
	for i, d := range append([]descriptor{*img.Config}, img.Layers...) {
		what, arrived := "layer", (func())(nil)
		switch i {
		case 0:
			what = "config"
		case 1:
			arrived = first
		}
		a, _, err := c.get(ctx, what, "blobs/"+d.Digest, d.Digest, arrived)
		if err != nil {
			return p, err
		}
		p.blobs += a.bytes
	}
	p.took = time.Since(begun)
	return p, nil
}

// choose finds the manifest of a platform.
func choose(index manifest, arch string) (descriptor, error) {
	for _, d := range index.Manifests {
		if d.Platform != nil && d.Platform.Architecture == arch {
			return d, nil
		}
	}
	return descriptor{}, fmt.Errorf("the index has no image for %s", arch)
}

// get gets one thing and tells about it. An empty digest is not checked; arrived
// may be nil and is called at the first byte.
func (c *client) get(ctx context.Context, what, path, digest string, arrived func()) (answer, []byte, error) {
	a := answer{what: what}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+local+"/"+path, nil)
	if err != nil {
		return a, nil, err
	}
	req.Header.Set("Accept", typeIndex+", "+typeManifest)
	begun := time.Now()
	resp, err := c.http.Do(req)
	if err != nil {
		return a, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	var body bytes.Buffer
	if a.bytes, err = io.Copy(&body, &firstRead{resp.Body, arrived}); err != nil {
		return a, nil, fmt.Errorf("%s %s: %w", what, path, err)
	}
	a.took = time.Since(begun)
	if resp.StatusCode != http.StatusOK {
		return a, nil, fmt.Errorf("%s %s: %s: %s", what, path, resp.Status, body.Bytes())
	}
	sum := sha256.Sum256(body.Bytes())
	if got := "sha256:" + hex.EncodeToString(sum[:]); digest != "" && got != digest {
		return a, nil, fmt.Errorf("%s %s: the content is %s", what, path, got)
	}
	_, a.state, _ = strings.Cut(resp.Header.Get("Cache-Status"), "; ")
	c.told(a)
	return a, body.Bytes(), nil
}

// firstRead calls a function, if there is one, when the first bytes have come.
type firstRead struct {
	r     io.Reader
	first func()
}

// Read reads and, once, calls the function.
func (f *firstRead) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if n > 0 && f.first != nil {
		f.first()
		f.first = nil
	}
	return n, err
}
