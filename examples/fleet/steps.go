package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pullthrough/pullthrough/examples/internal/narrate"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// pulled is how one pull went.
type pulled struct {
	at    *replica
	first time.Duration // until the first byte of the first layer
	took  time.Duration
	bytes int64
	err   error
}

// pullAtAll pulls an image at each replica at once. begun, if not nil, is called once every
// pull has begun.
func (s *story) pullAtAll(ctx context.Context, repository string, begun func()) []pulled {
	ends := make(chan pulled, len(s.replicas))
	at := slices.Clone(s.replicas)
	for _, r := range at {
		go func() {
			start, p := time.Now(), pulled{at: r}
			pull, err := r.client.Pull(ctx, repository, "v1", "amd64", func() {
				if p.first == 0 {
					p.first = time.Since(start)
				}
			})
			p.took, p.bytes, p.err = time.Since(start), pull.Blobs(), err
			ends <- p
		}()
	}
	if begun != nil {
		begun()
	}
	var all []pulled
	for range at {
		all = append(all, <-ends)
	}
	slices.SortFunc(all, func(a, b pulled) int { return strings.Compare(a.at.name, b.at.name) })
	return all
}

// whole checks that pulls brought everything, and prints how long they took.
func (s *story) whole(repository string, all []pulled) (err error) {
	for _, p := range all {
		err = errors.Join(err, p.err, narrate.Check(p.err != nil || p.bytes == s.bytes(repository), "at %s the client got %d bytes of blobs", p.at.name, p.bytes))
		if p.err == nil {
			s.Line(p.at.name, "first byte of a layer after %v, everything after %v", p.first.Round(time.Millisecond), p.took.Round(time.Millisecond))
		}
	}
	return err
}

// settle waits until no copy is under way, and nothing is brought near.
func (s *story) settle(ctx context.Context) error {
	for _, r := range s.replicas {
		if err := r.cache.Idle(ctx); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	return nil
}

// failures counts the requests between replicas that were not answered in time.
func (s *story) failures() (n int64) {
	for _, r := range s.replicas {
		n += r.fleet.Stats().Failures
	}
	return n
}

// times says how often an image of n bytes is in sent bytes.
func times(sent, n int64) string { return fmt.Sprintf("%.3f times", float64(sent)/float64(n)) }

// cold shows that one of the replicas fetches each blob, and one of them copies the image.
func (s *story) cold(ctx context.Context) error {
	n := s.bytes("team/app")
	err := s.whole("team/app", s.pullAtAll(ctx, "team/app", nil))
	if err != nil {
		return err
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	sent, stored, events := s.registry.BlobBytes(""), s.objects.bytes.Load(), s.takeEvents()
	s.Line("registry", "sent the blobs %s, %s", times(sent, n), narrate.Size(sent))
	s.Line("objects", "were written them %s, with what says where they belong", times(stored, n))
	by := map[string]int{}
	for _, ev := range events {
		by[ev.ID]++
	}
	s.Line("events", "%d, each once, for the image and for the tag that leads to it", len(events))
	for _, ev := range events {
		s.Line("", "%s of %s", ev.Action, narrate.Brief(ev.Target.Digest))
	}
	return errors.Join(
		// On a machine that is busy enough a replica may seem dead for a moment.
		narrate.Check(sent == n || sent < n+n/10 && s.failures() > 0, "the registry sent %d bytes of blobs; the image has %d", sent, n),
		narrate.Check(stored >= n && stored < n+n/20, "%d bytes were written to the object store; the image has %d", stored, n),
		narrate.Check(len(events) == 3 && len(by) == 3, "there were %d events, of %d kinds", len(events), len(by)))
}

// warm shows that further pulls are local at each replica. Behind the first ones, a replica
// whose client got everything from another one may still be bringing things to its disk.
func (s *story) warm(ctx context.Context) error {
	if err := s.whole("team/app", s.pullAtAll(ctx, "team/app", nil)); err != nil {
		return err
	}
	var reads, sent int64
	var requests int
	for round := 0; round < 10 && (round == 0 || reads > 0); round++ {
		s.registry.Reset()
		s.objects.reads.Store(0)
		for _, p := range s.pullAtAll(ctx, "team/app", nil) {
			if p.err != nil {
				return p.err
			}
		}
		reads, requests, sent = s.objects.reads.Load(), len(s.registry.Requests()), s.registry.BlobBytes("")
	}
	s.Line("once more", "%d requests to the registry, which ask whether the tag has moved, and %d to the object store", requests, reads)
	return errors.Join(
		narrate.Check(requests == len(s.replicas) && sent == 0, "%d requests to the registry for %d pulls, and %d bytes of blobs", requests, len(s.replicas), sent),
		narrate.Check(reads == 0, "%d requests to the object store", reads))
}

// killed shows that the loss of the replica that fetches costs the clients of the others a
// moment, and the registry a little. So that the loss is in the middle on every machine, the
// registry stops there, for the one that is lost.
func (s *story) killed(ctx context.Context) error {
	layer := s.image("team/model").Layers[1]
	part := layer.Size * 4 / 10
	s.registry.Fail(upstreamtest.Fault{Method: http.MethodGet, Kind: "blob", Reference: layer.Digest.String(), Stall: part, Times: 1})
	defer s.registry.Heal()
	defer s.registry.Release()
	var lost *replica
	all := s.pullAtAll(ctx, "team/model", func() {
		for lost == nil && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
			if s.registry.BlobBytes(layer.Digest) < part {
				continue
			}
			for _, r := range slices.Clone(s.replicas) {
				if r.fills() {
					lost = r
					s.kill(r)
				}
			}
		}
	})
	if lost == nil {
		return errors.New("no replica fetched the layer")
	}
	s.Line(lost.name, "is lost, after 40 %% of a layer; its own clients are cut off")
	others := slices.DeleteFunc(slices.Clone(all), func(p pulled) bool { return p.at == lost })
	if err := s.whole("team/model", others); err != nil {
		return err
	}
	sent := s.registry.BlobBytes(layer.Digest)
	s.Line("registry", "sent that layer %s: another replica went on where the lost one was", times(sent, layer.Size))
	if err := s.settle(ctx); err != nil {
		return err
	}
	events := s.takeEvents()
	s.Line("events", "%d: a copy that a lost replica had is done by another one, which tells of it", len(events))
	return errors.Join(
		narrate.Check(len(others) == 2, "%d replicas are left", len(others)),
		narrate.Check(sent < layer.Size*11/10, "the registry sent %d bytes of a layer of %d", sent, layer.Size),
		narrate.Check(len(events) == 3, "there were %d events", len(events)))
}

// added shows that a new replica serves what is in the object store, and keeps it.
func (s *story) added(ctx context.Context) error {
	if err := s.add(ctx, "replica-4"); err != nil {
		return err
	}
	s.registry.Reset()
	var err error
	for _, repository := range slices.Sorted(maps.Keys(s.images)) {
		err = errors.Join(err, s.whole(repository, s.pullAtAll(ctx, repository, nil)))
	}
	sent := s.registry.BlobBytes("")
	s.Line("registry", "sent %d bytes of blobs: what the new one lacks comes from the object store", sent)
	return errors.Join(err, narrate.Check(sent == 0, "the registry sent %d bytes of blobs", sent))
}

// registryGone shows that everything is served without the registry.
func (s *story) registryGone(ctx context.Context) error {
	s.registry.Stop()
	return s.stillServed(ctx)
}

// objectsGone shows that everything is served without the object store too.
func (s *story) objectsGone(ctx context.Context) error {
	if err := s.near(ctx); err != nil {
		return err
	}
	s.objects.stop()
	return s.stillServed(ctx)
}

// stillServed pulls every image at every replica.
func (s *story) stillServed(ctx context.Context) (err error) {
	for _, repository := range slices.Sorted(maps.Keys(s.images)) {
		all := s.pullAtAll(ctx, repository, nil)
		for _, p := range all {
			err = errors.Join(err, p.err, narrate.Check(p.err != nil || p.bytes == s.bytes(repository), "at %s the client got %d bytes of blobs", p.at.name, p.bytes))
		}
		s.Line(repository, "is served by all %d replicas", len(all))
	}
	return err
}

// near waits until the new replica has everything on its disk, which it brings there behind
// its answers.
func (s *story) near(ctx context.Context) error {
	for _, r := range s.replicas {
		for repository := range s.images {
			for _, d := range append(s.image(repository).Layers, s.image(repository).Config) {
				for {
					if _, err := r.disk.Stat(ctx, repository, d.Digest); err == nil {
						break
					}
					if ctx.Err() != nil {
						return fmt.Errorf("%s never had %s on its disk", r.name, d.Digest)
					}
					time.Sleep(5 * time.Millisecond)
				}
			}
		}
	}
	return nil
}
