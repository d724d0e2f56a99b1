// Package work has what is compared, one subject per file, and does it in rounds: every
// peer does the same once in each round, one after the other and each time from nothing,
// so that what else the machine does meanwhile hits all of them.
package work

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/pullthrough/pullthrough/internal/bench/peer"
	"github.com/pullthrough/pullthrough/internal/bench/proc"
	"github.com/pullthrough/pullthrough/internal/bench/registry"
	"github.com/pullthrough/pullthrough/internal/bench/report"
)

// Sizes says how much is done.
type Sizes struct {
	// Blob is the size of the blob for one client, and Fan of that for many.
	Blob, Fan int64
	// Passes is how often a warm blob is pulled in a row.
	Passes int
	// Images is the number of tiny images.
	Images int
	// Time is how long warm manifests are asked for.
	Time time.Duration
	// Layer is the size of each of the ten layers for crane.
	Layer int
	// Slow is the number of slow clients, and SlowTime how long they stay.
	Slow     int
	SlowTime time.Duration
	// Far is the size of the blob behind a long link.
	Far  int64
	Link registry.Link
	// Growth are the numbers of images at which the growing cache is looked at.
	Growth []int
}

// Work is something that is compared.
type Work struct {
	// Name selects it.
	Name string
	// Peers are the names of those that do it.
	Peers []string
	// Once says that there is only one round.
	Once bool
	// Far says that the registry is behind the long link.
	Far bool
	// prepare adds content to the catalog, with files in a folder, and returns what
	// each peer does.
	prepare func(s Sizes, c *registry.Catalog, folder string) (measure, error)
}

// measure is what a peer does in a round, and notes in it.
type measure func(context.Context, *round) error

// All returns every work, in the order in which they are done.
func All() []Work {
	return []Work{blob(), fan(), storm(), manifests(), crane(), slow(), far(), growth()}
}

// servers are the peers that do almost every work, and others.
func servers(others ...string) []string {
	return append([]string{peer.Cache, peer.Bare, peer.Nginx, peer.Varnish, peer.Distribution}, others...)
}

// Bench does works.
type Bench struct {
	// Peers are those that take part.
	Peers []peer.Peer
	// Programs are the programs of the peers, by name, and Crane is that client.
	Programs map[string]string
	Crane    string
	// Rounds is how often everything is done.
	Rounds int
	// Sizes says how much is done.
	Sizes Sizes
	// Folder is where everything lies while it is needed.
	Folder string
	// Progress is called with what happens.
	Progress func(format string, args ...any)
	// Results gets what was measured.
	Results report.Results
}

// partTimeout is how long a peer may take for its part of a round.
const partTimeout = 30 * time.Minute

// Run does the works, until ctx ends. What a peer fails at is noted in the results, and
// the others go on.
func (b *Bench) Run(ctx context.Context, works []Work) error {
	for _, w := range works {
		if err := b.do(ctx, w); err != nil {
			return fmt.Errorf("%s: %w", w.Name, err)
		}
	}
	return nil
}

// do does one work in all its rounds.
func (b *Bench) do(ctx context.Context, w Work) (err error) {
	folder, err := os.MkdirTemp(b.Folder, w.Name+"-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	b.Progress("%s: making its content", w.Name)
	catalog := &registry.Catalog{}
	run, err := w.prepare(b.Sizes, catalog, folder)
	if err != nil {
		return err
	}
	saved := filepath.Join(folder, "catalog")
	if err := catalog.Save(saved); err != nil {
		return err
	}
	link := registry.Link{}
	if w.Far {
		link = b.Sizes.Link
	}
	up, err := registry.Start(catalog, link)
	if err != nil {
		return err
	}
	defer up.Close()
	rounds := b.Rounds
	if w.Once {
		rounds = 1
	}
	peers := b.taking(w)
	for n := range rounds {
		// Another one begins in each round.
		for i := range peers {
			r := &round{bench: b, peer: peers[(n+i)%len(peers)], number: n + 1, up: up, catalog: saved}
			if err := b.part(ctx, w.Name, r, run); err != nil {
				return err
			}
		}
	}
	return nil
}

// taking returns the peers that do a work.
func (b *Bench) taking(w Work) (some []peer.Peer) {
	for _, p := range b.Peers {
		if slices.Contains(w.Peers, p.Name) {
			some = append(some, p)
		}
	}
	return some
}

// part has one peer do its part of a round, with the noise around it. The error is that
// of ctx; any other is noted.
func (b *Bench) part(ctx context.Context, work string, r *round, run measure) error {
	begun := time.Now()
	noise, err := proc.Listen()
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, partTimeout)
	err = run(limited, r)
	cancel()
	err = errors.Join(err, r.close())
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	share, heard := noise.Share()
	if heard != nil {
		return heard
	}
	if err != nil {
		b.Progress("%s, round %d, %s: FAILED: %v", work, r.number, r.peer.Name, err)
		b.Results.Fail(work, r.peer.Name, r.number, err)
		return nil
	}
	r.publish(share)
	b.Progress("%s, round %d, %s: %.1f s, others took %.0f %%: %s", work, r.number, r.peer.Name, time.Since(begun).Seconds(), 100*share, r.brief())
	// What is left to be written would slow the next one down.
	written := make(chan struct{})
	go func() { syscall.Sync(); close(written) }()
	select {
	case <-written:
	case <-ctx.Done():
	}
	return context.Cause(ctx)
}
