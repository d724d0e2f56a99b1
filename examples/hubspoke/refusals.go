package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/pullthrough/pullthrough/examples/internal/narrate"
	"github.com/pullthrough/pullthrough/examples/internal/puller"
	"github.com/pullthrough/pullthrough/examples/internal/site"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// tool is an image that no cache has.
const tool, toolTag = "golden/tool", "1.0"

// loop shows that a request which comes back to a cache ends there.
func (s *story) loop(ctx context.Context) error {
	s.Line("hub", "has one more rule, by mistake: loop/* comes from east")
	err := errors.Join(
		s.refused(ctx, s.east, "loop/app", "1.0", "circle"),
		s.counted(ctx, figures{"hub": {Refused: 1}, "east": {Refused: 2}}))
	s.Line("east", "was asked by the client and then by the hub, saw its own name in CDN-Loop, and answered 508, which went all the way back.")
	return err
}

// fourthLevel shows that a cache below a leaf is one too many, and that this is no trouble
// of others.
func (s *story) fourthLevel(ctx context.Context) error {
	img := s.registry.AddMultiPlatform(tool, toolTag, upstreamtest.Layers(2, 1<<20), "amd64").Children[0]
	s.Line("edge", "http://%s; everything comes from leaf-east", s.edge.Address)
	err := errors.Join(
		s.refused(ctx, s.edge, tool, toolTag, "more caches than allowed"),
		s.counted(ctx, figures{"hub": {Refused: 1}, "east": {Refused: 1}, "leaf-east": {Refused: 1}, "edge": {Refused: 1}}))
	if err != nil {
		return err
	}
	s.Line("hub", "would be the fourth cache that the request passes.")
	if _, err := s.leafEast.Client.Pull(ctx, tool, toolTag, "amd64", nil); err != nil {
		return err
	}
	s.Line("leaf-east", "gives the same image to a client of its own right afterwards.")
	pulled := site.Asked{Manifests: 2, Blobs: 3, Bytes: blobSize(img)}
	if _, err := s.count(ctx, figures{"registry": pulled, "hub": pulled, "east": pulled, "leaf-east": pulled}); err != nil {
		return err
	}
	return s.behindALevelTooMany(ctx)
}

// behindALevelTooMany shows that a fourth level gets what the levels before the hub have,
// even if it is no longer what the registry has.
func (s *story) behindALevelTooMany(ctx context.Context) error {
	stored := s.image
	s.publish(3)
	s.Line("registry", "%s is now %s", tag, narrate.Brief(s.image.Digest))
	p, err := s.edge.Client.Pull(ctx, golden, tag, "amd64", nil)
	if err != nil {
		return err
	}
	s.Line("edge", "gets the former one, %s: what is stored on the way is served, though the hub lets nobody ask whether it has moved.", narrate.Brief(p.Index))
	whole := site.Asked{Manifests: 2, Blobs: 4, Bytes: blobSize(stored.Children[0])}
	_, err = s.count(ctx, figures{"hub": {Refused: 1}, "east": {Heads: 1}, "leaf-east": whole, "edge": whole})
	return errors.Join(err, narrate.Check(p.Index == stored.Digest, "the edge got %s", p.Index))
}

// refused pulls an image, for which the response must be 508 with these words, and prints
// what the client sees.
func (s *story) refused(ctx context.Context, at *site.Site, repository, tag, words string) error {
	_, err := at.Client.Pull(ctx, repository, tag, "amd64", nil)
	if err == nil {
		return fmt.Errorf("%s:%s was not refused at %s", repository, tag, at.Name)
	}
	r, ok := errors.AsType[*puller.Refusal](err)
	if !ok {
		return err
	}
	s.Line("client", "pulls %s/%s:%s", at.Address, repository, tag)
	s.Line("", "%v", r)
	return narrate.Check(r.Status == http.StatusLoopDetected && strings.Contains(r.Message, words), "the refusal is not 508 with the words %q", words)
}
