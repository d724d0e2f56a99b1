package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/internal/puller"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook"
)

// pace is the speed of the upstream in bytes per second. It is slow enough to show that
// pulls stream.
const pace = 6 << 20

// patience is how long the story waits for an event or the end of a copy, on a busy machine
// too.
const patience = time.Minute

// story prints what happens, and compares it with what should happen.
type story struct {
	out     io.Writer
	begun   time.Time
	up      *upstreamtest.Registry
	cache   *cache.Cache
	address string
	events  <-chan webhook.Event
	hook    string
	client  *puller.Client

	base  string // the digest of the first layer, which all versions share
	early int64  // bytes of it that the upstream had sent when the client had the first one
}

func newStory(out io.Writer, up *upstreamtest.Registry, c *cache.Cache, address string, r *receiver) *story {
	s := &story{out: out, begun: time.Now(), up: up, cache: c, address: address, events: r.events, hook: r.url}
	s.client = puller.New("http://" + address)
	s.client.Answered = s.answered
	return s
}

// tell runs the chapters of the story up to the first that fails.
func (s *story) tell(ctx context.Context) error {
	defer s.client.HTTP.CloseIdleConnections()
	first, err := publish(s.up, 1)
	if err != nil {
		return err
	}
	s.base = first.layers[0].Digest
	s.up.Pace(pace)
	s.print("A registry, and a pull-through cache in front of it")
	s.line("upstream", "%s/%s:%s for amd64 and arm64, which it sends at %s/s", s.up.Host(), source, tag, size(pace))
	s.line("cache", "%s, empty", s.address)
	s.line("rule", "mirror/* stands for %s/team/*", s.up.Host())
	s.line("webhook", "%s receives an event when a copy is complete", s.hook)
	chapters := []func(context.Context, image) error{s.firstPull, s.secondPull, s.tagMoved, s.upstreamDown}
	for i, chapter := range chapters {
		if err := chapter(ctx, first); err != nil {
			return fmt.Errorf("chapter %d: %w", i+1, err)
		}
	}
	s.print("\nAll figures were counted, and are what they should be.")
	return nil
}

// firstPull shows that the first pull streams, and leaves a stored image. So that the first
// bytes of a layer cannot wait for the last ones on any machine, the upstream stops in the
// middle of it until the client has them.
func (s *story) firstPull(ctx context.Context, img image) error {
	s.print("\n1. The first pull streams through")
	s.up.Fail(upstreamtest.Fault{Kind: "blob", Reference: s.base, Stall: img.layers[0].Size / 2, Times: 1})
	defer s.up.Heal()
	defer s.up.Release()
	p, err := s.pull(ctx)
	if err != nil {
		return err
	}
	early := s.early
	s.line("client", "the last of %s after %s", size(p.Blobs()), duration(p.Took))
	if err := s.complete(ctx); err != nil {
		return err
	}
	return errors.Join(
		atMost("bytes of a layer that the upstream had sent at its first byte", early, img.layers[0].Size-1),
		equal("bytes of blobs at the client", p.Blobs(), img.size()),
		s.cost(0, 2, 4, img.size()),
	)
}

// secondPull shows that the second pull is local, except for the check whether the tag has
// moved.
func (s *story) secondPull(ctx context.Context, img image) error {
	s.print("\n2. The second pull is local")
	s.up.Reset()
	p, err := s.pull(ctx)
	if err != nil {
		return err
	}
	s.line("client", "%s after %s", size(p.Blobs()), duration(p.Took))
	if err := s.settle(ctx); err != nil {
		return err
	}
	return errors.Join(equal("bytes of blobs at the client", p.Blobs(), img.size()), s.cost(1, 0, 0, 0))
}

// tagMoved shows that a pull of a tag that has moved fetches only the new content.
func (s *story) tagMoved(ctx context.Context, _ image) error {
	s.print("\n3. The tag has moved: a new app layer on the same base")
	img, err := publish(s.up, 2)
	if err != nil {
		return err
	}
	s.up.Reset()
	p, err := s.pull(ctx)
	if err != nil {
		return err
	}
	s.line("client", "%s after %s", size(p.Blobs()), duration(p.Took))
	if err := s.complete(ctx); err != nil {
		return err
	}
	changed := img.config.Size + img.layers[len(img.layers)-1].Size
	return errors.Join(equal("bytes of blobs at the client", p.Blobs(), img.size()), s.cost(1, 2, 2, changed))
}

// upstreamDown shows that the cache serves stored images while the upstream is down. At its
// end the upstream is up again.
func (s *story) upstreamDown(ctx context.Context, img image) error {
	s.print("\n4. The upstream is down")
	s.up.Reset()
	s.up.Stop()
	p, err := s.pull(ctx)
	if err != nil {
		return err
	}
	s.line("client", "%s after %s", size(p.Blobs()), duration(p.Took))
	if !strings.Contains(p.Answers[0].State, "fwd=stale") {
		err = fmt.Errorf("Cache-Status is %q, the story says fwd=stale", p.Answers[0].State)
	}
	err = errors.Join(err, equal("bytes of blobs at the client", p.Blobs(), img.size()), s.cost(0, 0, 0, 0))
	return errors.Join(err, s.up.Restart())
}

// pull pulls the image for linux/amd64.
func (s *story) pull(ctx context.Context) (puller.Pull, error) {
	begun := time.Now()
	return s.client.Pull(ctx, local, tag, "amd64", func() { s.arrived(time.Since(begun)) })
}

// arrived notes how many bytes of the first layer the upstream has sent when the client has
// the first one, and lets the upstream send the rest.
func (s *story) arrived(after time.Duration) {
	s.early = s.up.BlobBytes(digest.Digest(s.base))
	s.line("client", "first byte of a layer after %s; the upstream has sent %s of it", duration(after), size(s.early))
	s.up.Release()
}

// complete waits for the three events of a copy, for the image, its index and the tag, and
// prints them.
func (s *story) complete(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	seen := map[string]int{}
	for range 3 {
		select {
		case ev := <-s.events:
			seen[s.event(ev)]++
		case <-ctx.Done():
			return fmt.Errorf("waiting for the events of a copy: %w", ctx.Err())
		}
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	return errors.Join(
		equal("events of an image", int64(seen["image"]), 1),
		equal("events of an index", int64(seen["index"]), 1),
		equal("events of a tag", int64(seen["tag"]), 1),
		equal("further events", int64(len(s.events)), 0),
	)
}

// settle waits until no request, download or copy is under way, so that the counters are
// final. A copy that waits until a client pulls a platform is not under way.
func (s *story) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	for {
		busy := s.cache.Stats().Downloads + s.up.Open()
		for _, c := range s.cache.Copies() {
			if c.State == "running" || c.State == "queued" {
				busy++
			}
		}
		if busy == 0 {
			return nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the copies to end: %w", ctx.Err())
		}
	}
}

// cost prints the requests that a pull sent upstream, and compares them with the expected
// ones.
func (s *story) cost(heads, manifests, blobs, bytes int64) error {
	h, m := int64(s.up.Count("HEAD", "manifest", "")), int64(s.up.Count("GET", "manifest", ""))
	b, all := int64(s.up.Count("GET", "blob", "")), int64(s.up.Count("", "", ""))
	sent := s.up.BlobBytes("")
	s.line("upstream", "%d HEAD, %d manifests, %d blobs, %s", h, m, b, size(sent))
	return errors.Join(
		equal("HEADs upstream", h, heads),
		equal("manifests fetched", m, manifests),
		equal("blobs fetched", b, blobs),
		equal("requests upstream", all, heads+manifests+blobs),
		equal("bytes of blobs fetched", sent, bytes),
	)
}

// back waits until the cache has noticed that the upstream is up again, for which it checks
// once a second.
func (s *story) back(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	c := *s.client
	c.Answered = nil
	for {
		a, _, err := c.Index(ctx, local, tag)
		if err != nil {
			return err
		}
		if !strings.Contains(a.State, "fwd=stale") {
			s.line("upstream", "is back, and the cache knows")
			return nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the cache to find the upstream again: %w", ctx.Err())
		}
	}
}

// serveOn serves other clients, and prints events, until ctx ends.
func (s *story) serveOn(ctx context.Context) error {
	s.print("")
	err := s.back(ctx)
	s.client.HTTP.CloseIdleConnections()
	if err != nil {
		return err
	}
	s.print("\nThe cache serves on. Some commands to try:\n")
	for _, command := range []string{
		"curl -i http://%s/v2/%s/manifests/%s",
		"crane manifest %s/%s:%s",
		"docker pull %s/%s:%s",
		"skopeo inspect --tls-verify=false docker://%s/%s:%s",
	} {
		s.print("    " + fmt.Sprintf(command, s.address, local, tag))
	}
	s.print("\nA pull for arm64 makes an event. Ctrl-C ends.\n")
	for {
		select {
		case ev := <-s.events:
			s.event(ev)
		case <-ctx.Done():
			return nil
		}
	}
}
