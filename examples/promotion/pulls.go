package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pullthrough/pullthrough/examples/internal/puller"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// blobSize returns how many bytes of blobs an image has.
func blobSize(img upstreamtest.Image) int64 {
	n := img.Config.Size
	for _, l := range img.Layers {
		n += l.Size
	}
	return n
}

// pull pulls the promoted image for an architecture, and prints what the client received.
func (s *story) pull(ctx context.Context, arch string, begun func()) (puller.Pull, error) {
	p, err := s.client.Pull(ctx, local, tag, arch, begun)
	if err == nil {
		s.answers(p)
	}
	return p, err
}

// firstPull shows that the first pull streams, and leaves a stored image and its events. So
// that the first bytes of a layer cannot wait for the last ones on any machine, the source
// stops in the middle of it until the client has them.
func (s *story) firstPull(ctx context.Context) error {
	s.line("docker", "pull prodregistry.azurecr.io/%s:%s", local, tag)
	img := s.image.Children[0]
	first := img.Layers[0]
	var sent int64
	s.dev.Content.Fail(upstreamtest.Fault{Kind: "blob", Reference: first.Digest.String(), Stall: first.Size / 2, Times: 1})
	defer s.dev.Content.Heal()
	defer s.dev.Content.Release()
	p, err := s.pull(ctx, "amd64", func() {
		sent = s.dev.Content.BlobBytes(first.Digest)
		s.dev.Content.Release()
	})
	if err != nil {
		return err
	}
	s.line("", "it had the first bytes of a layer when the source had sent %s of %s", size(sent), size(first.Size))
	// The config and the other layers may be stored before the client requests them; the
	// first layer cannot be, since the source stops.
	var streamed []string
	for _, a := range p.Answers {
		if a.Origin == "upstream" {
			streamed = append(streamed, a.What)
		}
	}
	return errors.Join(
		check(sent < first.Size, "the source had sent %d bytes of a layer before the client had any", sent),
		check(slices.Contains(streamed, "index") && slices.Contains(streamed, "manifest") && slices.Contains(streamed, "layer"),
			"only %q were streamed with X-Azure-Origin: upstream", streamed),
		s.pushes(ctx, target(tag, s.image.Descriptor), target("", s.image.Descriptor), target("", img.Descriptor)),
		s.spent(ctx, cost{imds: 1, exchanges: 1, tokens: 1, unauthorized: 1, manifests: 2, blobs: 4, bytes: blobSize(img)}),
	)
}

// secondPull shows that the second pull is local, except for the check whether the tag has
// moved.
func (s *story) secondPull(ctx context.Context) error {
	return errors.Join(s.stored(ctx, "fwd=request; fwd-status=200; detail=unchanged"), s.spent(ctx, cost{heads: 1}))
}

// stored pulls the image, all of which is stored. The response for the tag has that
// Cache-Status; all others are hits.
func (s *story) stored(ctx context.Context, state string) error {
	p, err := s.pull(ctx, "amd64", nil)
	if err != nil {
		return err
	}
	fetched := slices.ContainsFunc(p.Answers[1:], func(a puller.Answer) bool { return a.State != "hit" || a.Origin != "" })
	return errors.Join(
		check(p.Index == s.image.Digest, "the tag is %s; at the source it was %s", p.Index, s.image.Digest),
		check(p.Answers[0].State == state && p.Answers[0].Origin == "", "the tag's Cache-Status is %q; the story says %q", p.Answers[0].State, state),
		check(!fetched, "not everything came from the registry's own store"),
		s.pushes(ctx),
	)
}

// pushedAgain shows that a pull of a tag that has moved fetches only the new content.
func (s *story) pushedAgain(ctx context.Context) error {
	before := s.image
	s.publish(2)
	s.line("source", "%s is now %s, with a new last layer", tag, brief(s.image.Digest))
	p, err := s.pull(ctx, "amd64", nil)
	if err != nil {
		return err
	}
	if p.Index == before.Digest || p.Index != s.image.Digest {
		return fmt.Errorf("the tag is %s; at the source it is %s", p.Index, s.image.Digest)
	}
	img := s.image.Children[0]
	return errors.Join(
		s.pushes(ctx, target(tag, s.image.Descriptor), target("", s.image.Descriptor), target("", img.Descriptor)),
		s.spent(ctx, cost{heads: 1, manifests: 2, blobs: 2, bytes: img.Config.Size + img.Layers[2].Size}),
	)
}
