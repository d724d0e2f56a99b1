package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/pullthrough/pullthrough/examples/internal/narrate"
	"github.com/pullthrough/pullthrough/examples/internal/site"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// amd64 is the image that nodes pull.
func (s *story) amd64() upstreamtest.Image { return s.image.Children[0] }

// blobSize returns how many bytes of blobs an image has.
func blobSize(img upstreamtest.Image) int64 {
	n := img.Config.Size
	for _, l := range img.Layers {
		n += l.Size
	}
	return n
}

// pull pulls the golden image at a cache, and checks that it is the registry's.
func (s *story) pull(ctx context.Context, at *site.Site, begun func()) error {
	p, err := at.Client.Pull(ctx, golden, tag, "amd64", begun)
	if err != nil {
		return fmt.Errorf("at %s: %w", at.Name, err)
	}
	return errors.Join(
		narrate.Check(p.Index == s.image.Digest, "at %s the tag is %s; at the registry it is %s", at.Name, p.Index, s.image.Digest),
		narrate.Check(p.Blobs() == blobSize(s.amd64()), "at %s the client got %d bytes of blobs", at.Name, p.Blobs()),
	)
}

// firstPulls shows that two pulls at the same time, through two branches, are one download
// at the hub. So that they are at the same time on every machine, the registry stops in the
// middle of the first layer until both clients have its first bytes.
func (s *story) firstPulls(ctx context.Context) error {
	layer := s.amd64().Layers[0]
	half := layer.Size / 2
	s.registry.Fail(upstreamtest.Fault{Kind: "blob", Reference: layer.Digest.String(), Stall: half, Times: 1})
	defer s.registry.Heal()
	defer s.registry.Release()
	ctx, cancel := context.WithCancel(ctx) // if one pull fails, the other would wait in vain
	defer cancel()
	ends := make(chan error, 2)
	pull := func(at *site.Site) <-chan struct{} {
		begun := make(chan struct{})
		go func() { ends <- s.pull(ctx, at, func() { close(begun) }) }()
		return begun
	}
	wait := func(begun <-chan struct{}) error {
		select {
		case <-begun:
			return nil
		case err := <-ends:
			return errors.Join(errors.New("a pull ended too early"), err)
		}
	}
	if err := wait(pull(s.leafEast)); err != nil {
		return err
	}
	s.Line("leaf-east", "has the first bytes of a layer, of which the registry has sent %s of %s", narrate.Size(half), narrate.Size(layer.Size))
	if err := wait(pull(s.leafWest)); err != nil {
		return err
	}
	sent := s.registry.BlobBytes(layer.Digest)
	s.Line("leaf-west", "comes now, through the other region, and has them too: the hub passes on what has arrived")
	s.Line("registry", "sends the rest")
	s.registry.Release()
	img := s.amd64()
	once := site.Asked{Manifests: 2, Blobs: 4, Bytes: blobSize(img)}
	if err := errors.Join(<-ends, <-ends); err != nil {
		return err
	}
	err := errors.Join(
		narrate.Check(sent == half, "the registry had sent %d bytes of a layer when both clients had its first bytes", sent),
		s.counted(ctx, figures{
			"registry": {Manifests: 3, Blobs: 4, Bytes: blobSize(img)},
			"hub":      {Manifests: 4, Blobs: 8, Bytes: 2 * blobSize(img)},
			"east":     once, "west": once, "leaf-east": once, "leaf-west": once,
		}))
	s.Line("registry", "has sent the image once. It was asked for the tag twice, once by each branch: what other caches ask is not "+
		"shared, since each question names the caches that it has passed.")
	return err
}

// secondPull shows that the second pull is local at each level, except for the check
// whether the tag has moved.
func (s *story) secondPull(ctx context.Context) error {
	err := s.pull(ctx, s.leafEast, nil)
	requests := s.registry.Requests()
	check := site.Asked{Heads: 1}
	err = errors.Join(err, s.counted(ctx, figures{"registry": check, "hub": check, "east": check,
		"leaf-east": {Manifests: 2, Blobs: 4, Bytes: blobSize(s.amd64())}}))
	if err != nil {
		return err
	}
	passed := requests[0].Header.Get("CDN-Loop")
	s.Line("leaf-east", "has sent everything. Each level asked the next one whether the tag has moved.")
	s.Line("registry", "sees which caches the question has passed. CDN-Loop: %s", passed)
	return narrate.Check(passed == "leaf-east, east, hub", "CDN-Loop is %q", passed)
}

// tagMoves shows that a tag that has moved is noticed by the next pull, and that each level
// fetches the new content alone, once.
func (s *story) tagMoves(ctx context.Context) error {
	before := s.image
	s.publish(2)
	s.Line("registry", "%s is now %s, with a new last layer of %s; it was %s", tag, narrate.Brief(s.image.Digest),
		narrate.Size(s.amd64().Layers[2].Size), narrate.Brief(before.Digest))
	img := s.amd64()
	changed := site.Asked{Heads: 1, Manifests: 2, Blobs: 2, Bytes: img.Config.Size + img.Layers[2].Size}
	whole := site.Asked{Manifests: 2, Blobs: 4, Bytes: blobSize(img)}
	s.Line("leaf-east", "is asked for it")
	err := errors.Join(s.pull(ctx, s.leafEast, nil),
		s.counted(ctx, figures{"registry": changed, "hub": changed, "east": changed, "leaf-east": whole}))
	if err != nil {
		return err
	}
	s.Line("leaf-west", "is asked for it; the hub has it")
	return errors.Join(s.pull(ctx, s.leafWest, nil),
		s.counted(ctx, figures{"registry": {Heads: 1}, "hub": changed, "west": changed, "leaf-west": whole}))
}
