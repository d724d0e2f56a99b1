package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pullthrough/pullthrough/examples/internal/narrate"
	"github.com/pullthrough/pullthrough/examples/internal/puller"
	"github.com/pullthrough/pullthrough/examples/internal/site"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// What Cache-Status says of a tag.
const (
	fetched   = "fwd=miss; fwd-status=200"                      // nothing was stored
	moved     = "fwd=request; fwd-status=200"                   // the tag has a new digest
	unchanged = "fwd=request; fwd-status=200; detail=unchanged" // the tag has not moved
	held      = "fwd=request; fwd-status=200; detail=held"      // the gate keeps the former digest
)

// publish pushes the next version of the image under the tags: a base that all versions
// share, and a layer with a file that begins with text.
func (s *story) publish(text string, tags ...string) {
	content := append([]byte(text), upstreamtest.Bytes(uint64(len(s.versions)), 512<<10)...)
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	err := w.WriteHeader(&tar.Header{Name: "app", Mode: 0o755, Size: int64(len(content))})
	if err == nil {
		_, err = w.Write(content)
	}
	s.fail(errors.Join(err, w.Close()))
	img := s.vendor.AddImage(app, "", [][]byte{upstreamtest.Layer(1, 2<<20), layer.Bytes()})
	index := s.vendor.AddIndex(app, "", img)
	for _, tag := range tags {
		s.vendor.Tag(app, tag, index.Digest)
	}
	s.versions = append(s.versions, index)
	s.Line("vendor", "pushes version %d as %s:%s (%s)", len(s.versions), app, strings.Join(tags, " and :"), narrate.Brief(index.Digest))
}

// own returns how many bytes of blobs only one version has, and base how many all share.
func (s *story) own(version int) int64 {
	img := s.versions[version-1].Children[0]
	return img.Config.Size + img.Layers[1].Size
}

func (s *story) base() int64 { return s.versions[0].Children[0].Layers[0].Size }

// gets pulls a tag, which must be a version, with that Cache-Status.
func (s *story) gets(ctx context.Context, at *site.Site, tag string, version int, state string) {
	if s.err != nil {
		return
	}
	p, err := at.Client.Pull(ctx, app, tag, "amd64", nil)
	if err != nil {
		s.fail(fmt.Errorf("at %s: %w", at.Name, err))
		return
	}
	got := slices.IndexFunc(s.versions, func(img upstreamtest.Image) bool { return img.Digest == p.Index }) + 1
	s.Line(at.Name, "%s:%s is version %d   %s", app, tag, got, p.Answers[0].State)
	s.check(got == version, "at %s the tag %s is version %d, %s; the story says %d", at.Name, tag, got, p.Index, version)
	s.check(p.Answers[0].State == state, "the tag's Cache-Status is %q; the story says %q", p.Answers[0].State, state)
}

// refused pulls a tag, for which the response must be 403 with these words, and prints what
// the client sees.
func (s *story) refused(ctx context.Context, at *site.Site, tag, words string) {
	if s.err != nil {
		return
	}
	_, err := at.Client.Pull(ctx, app, tag, "amd64", nil)
	if err == nil {
		s.fail(fmt.Errorf("%s:%s was not refused at %s", app, tag, at.Name))
		return
	}
	r, ok := errors.AsType[*puller.Refusal](err)
	if !ok {
		s.fail(err)
		return
	}
	s.Line(at.Name, "%s:%s is refused", app, tag)
	s.Line("", "%v", r)
	s.check(r.Status == http.StatusForbidden && r.Code == "DENIED" && strings.Contains(r.Message, words), "the refusal is not 403 with the words %q", words)
}

// happened waits for an entry of the audit trail, and prints it. A verdict of the scanner may
// be another one.
func (s *story) happened(ctx context.Context, stage, what string, version int) {
	if s.err != nil {
		return
	}
	kinds := []string{what}
	if stage == "scanner" {
		kinds = []string{clean, rejected}
	}
	e, err := s.trail.wait(ctx, stage, s.version(version), kinds...)
	if s.fail(err); err == nil {
		s.Line("audit", "%s: %s, version %d", stage, e.what, version)
		s.check(e.what == what, "%s says that version %d is %s; the story says %s", stage, version, e.what, what)
	}
}

// objectionsEnd waits until production may take a version.
func (s *story) objectionsEnd(ctx context.Context, version int) {
	if s.err != nil {
		return
	}
	e, ok := s.trail.has("prod", asked, s.version(version))
	if s.check(ok, "production was not asked for version %d", version); !ok {
		return
	}
	s.Line("", "(%v pass, and nobody objects)", objections)
	select {
	case <-time.After(time.Until(e.time.Add(objections))):
	case <-ctx.Done():
		s.fail(ctx.Err())
	}
}

// vendorWas waits until nothing is under way, prints what the vendor was asked, compares it
// with what is expected, and begins to count anew.
func (s *story) vendorWas(ctx context.Context, want site.Asked) {
	for _, stage := range s.sites {
		if s.err == nil {
			s.fail(stage.Settle(ctx))
		}
	}
	if s.err != nil {
		return
	}
	got := site.Asked{
		Heads:     s.vendor.Count(http.MethodHead, "", ""),
		Manifests: s.vendor.Count(http.MethodGet, "manifest", ""),
		Blobs:     s.vendor.Count(http.MethodGet, "blob", ""),
		Bytes:     s.vendor.BlobBytes(""),
	}
	s.vendor.Reset()
	s.sent += got.Bytes
	if got == (site.Asked{}) {
		s.Line("vendor", "was asked nothing")
	} else {
		s.Line("vendor", "was asked: HEAD %d, manifests %d, blobs %d, %s", got.Heads, got.Manifests, got.Blobs, narrate.Size(got.Bytes))
	}
	s.check(got == want, "the vendor was asked %+v; the story says %+v", got, want)
}
