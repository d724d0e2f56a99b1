package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/webhook"
)

// marker is what the scanner finds.
const marker = "SIMULATED-MALWARE"

// scanner looks at what comes into quarantine. It is a stand-in: it does unpack every layer
// of every platform, but knows one thing that is bad, where a real one has a database.
type scanner struct {
	quarantine *cache.Cache
	trail      *trail
	turn       sync.Mutex // held while it must not begin
}

// ServeHTTP scans the image that an event of the quarantine is about. If that fails, the
// status says so and the event is delivered again.
func (s *scanner) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ev, ok := s.trail.event(w, r)
	if !ok {
		return
	}
	s.turn.Lock()
	defer s.turn.Unlock()
	if ev.Action == webhook.ActionPush && ev.Target.Tag != "" {
		if err := s.scan(r.Context(), ev.Target.Repository, digest.Digest(ev.Target.Digest)); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// scan scans an index, and adds the verdict to the audit trail.
func (s *scanner) scan(ctx context.Context, repository string, d digest.Digest) error {
	_, body, err := s.quarantine.Manifest(ctx, repository, d.String())
	if err != nil {
		return err
	}
	var index ocispec.Index
	if err := json.Unmarshal(body, &index); err != nil {
		return err
	}
	verdict := clean
	for _, child := range index.Manifests {
		_, body, err := s.quarantine.Manifest(ctx, repository, child.Digest.String())
		if err != nil {
			return err
		}
		var image ocispec.Manifest
		if err := json.Unmarshal(body, &image); err != nil {
			return err
		}
		for _, layer := range image.Layers {
			found, err := s.scanLayer(ctx, repository, layer)
			if err != nil {
				return err
			}
			if found {
				verdict = rejected
			}
		}
	}
	s.trail.decide("scanner", verdict, d)
	return nil
}

// scanLayer reports whether a file in a layer has the marker.
func (s *scanner) scanLayer(ctx context.Context, repository string, layer ocispec.Descriptor) (found bool, err error) {
	_, blob, err := s.quarantine.Blob(ctx, repository, layer.Digest)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, blob.Close()) }()
	in := io.Reader(blob)
	if strings.HasSuffix(layer.MediaType, "+gzip") {
		if in, err = gzip.NewReader(in); err != nil {
			return false, err
		}
	}
	for archive := tar.NewReader(in); ; {
		if _, err := archive.Next(); errors.Is(err, io.EOF) {
			return found, nil
		} else if err != nil {
			return false, fmt.Errorf("layer %s: %w", layer.Digest, err)
		}
		file, err := io.ReadAll(archive)
		if err != nil {
			return false, err
		}
		found = found || bytes.Contains(file, []byte(marker))
	}
}
