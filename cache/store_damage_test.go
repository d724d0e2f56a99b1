package cache_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// rotten is a store one of whose contents has changed.
type rotten struct {
	*store.Mem
	digest digest.Digest
}

type rottenFile struct{ *bytes.Reader }

func (rottenFile) Close() error { return nil }

func (r *rotten) Open(ctx context.Context, repo string, d digest.Digest) (store.Info, io.ReadSeekCloser, error) {
	info, f, err := r.Mem.Open(ctx, repo, d)
	if err != nil || d != r.digest {
		return info, f, err
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return info, nil, err
	}
	data[len(data)-1] ^= 1
	return info, rottenFile{bytes.NewReader(data)}, nil
}

// TestDamagedManifest: a stored manifest whose bytes have changed counts as missing: it
// comes from the upstream, and is an error without it.
func TestDamagedManifest(t *testing.T) {
	inBubble(t, func(c *clock) {
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.manifest("v1")
		c.pass(0)
		c.stop()
		c.store = &rotten{c.store.(*store.Mem), img.Digest}
		c.start()
		for _, reference := range []string{"v1", img.Digest.String()} {
			_, body, err := c.cache.Manifest(c.Context(), "app/api", reference)
			if err != nil || digest.FromBytes(body) != img.Digest {
				c.Errorf("%s: %v, %v", reference, digest.FromBytes(body), err)
			}
		}
		c.pass(0) // the copy of what was fetched ends
		c.stop()
		c.up.Fail(upstreamtest.Fault{Status: 503})
		c.start()
		if _, body, err := c.cache.Manifest(c.Context(), "app/api", "v1"); err == nil {
			c.Errorf("%q is served", body)
		}
	})
}

// TestDamagedRead: neither is a manifest that was only read served when its record has
// changed.
func TestDamagedRead(t *testing.T) {
	inBubble(t, func(c *clock) {
		img := c.up.AddMultiPlatform("team/api", "v1", upstreamtest.Layers(1, 1000), "amd64", "arm64")
		c.manifest("v1")
		c.read(img.Children...)
		c.pass(0)
		c.stop()
		r, _ := store.As[store.Records](c.store)
		changed := 0
		for key := range r.RecordKeys(c.Context(), "manifests") {
			data, err := r.Record(c.Context(), "manifests", key)
			var rec struct {
				Stamp json.RawMessage `json:"stamp"`
				Data  struct {
					MediaType string `json:"mediaType"`
					Body      []byte `json:"body"`
				} `json:"data"`
			}
			if err != nil || json.Unmarshal(data, &rec) != nil {
				c.Fatal(err)
			}
			rec.Data.Body[len(rec.Data.Body)-1] = ' '
			if data, err = json.Marshal(rec); err == nil {
				err = r.PutRecord(c.Context(), "manifests", key, data)
			}
			if err != nil {
				c.Fatal(err)
			}
			changed++
		}
		for key := range r.RecordKeys(c.Context(), "jobs") { // they hold the manifests too
			_ = r.DeleteRecord(c.Context(), "jobs", key)
		}
		c.up.Fail(upstreamtest.Fault{Status: 503})
		c.start()
		c.pass(0)
		for _, child := range img.Children {
			if _, body, err := c.cache.Manifest(c.Context(), "app/api", child.Digest.String()); err == nil {
				c.Errorf("%q is served", body)
			}
		}
		if changed != 2 {
			c.Errorf("%d manifests were kept", changed)
		}
	})
}
