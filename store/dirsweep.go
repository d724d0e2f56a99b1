package store

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"
)

// sweepBatch is how many blobs are freed before writers get a turn.
const sweepBatch = 32

// Sweep frees the bytes that no repository links, and the parts of unfinished
// content that are not open and older than a day. It returns how many bytes that
// were. It reads every link there is, and holds a digest in memory for each. Other
// calls go on meanwhile; a second Sweep waits for the first.
func (d *Dir) Sweep(ctx context.Context) (freed int64, err error) {
	d.sweeping.Lock()
	defer d.sweeping.Unlock()
	if freed, err = d.clearStale(); err != nil {
		return freed, fmt.Errorf("store: sweep: %w", err)
	}
	d.setLinked(make(map[digest.Digest]bool))
	defer d.setLinked(nil)
	if err := d.noteAll(ctx); err != nil {
		return freed, err
	}
	algs, err := readNames(d.path("blobs"))
	for _, alg := range algs {
		var folders []string
		if folders, err = readNames(d.path("blobs", alg)); err != nil {
			return freed, err
		}
		for _, folder := range folders {
			if err := ctx.Err(); err != nil {
				return freed, err
			}
			n, err := d.sweepFolder(alg, d.path("blobs", alg, folder))
			freed += n
			if err != nil {
				return freed, fmt.Errorf("store: sweep: %w", err)
			}
		}
	}
	return freed, err
}

func (d *Dir) setLinked(m map[digest.Digest]bool) {
	// A call that is about to link something has not noted it yet; wait for it.
	d.sweep.Lock()
	d.linked = m
	d.sweep.Unlock()
}

// noteLinked keeps a running Sweep from freeing content that is about to be linked.
// d.sweep is held for reading until it is linked.
func (d *Dir) noteLinked(c content) {
	d.linkedMu.Lock()
	defer d.linkedMu.Unlock()
	if d.linked != nil {
		d.linked[c.digest] = true
	}
}

// noteAll notes everything that is linked in any repository.
func (d *Dir) noteAll(ctx context.Context) (err error) {
	d.walk(ctx, "", "", func(repo string, werr error) bool {
		if err = werr; err != nil {
			return false
		}
		for _, kind := range []string{blobLinks, manifestLinks} {
			var names []string
			if names, err = readNames(d.path("repos", repo, kind)); err != nil {
				return false
			}
			for _, name := range names {
				d.noteLinked(content{digest: digest.Digest(strings.Replace(name, "-", ":", 1))})
			}
		}
		return true
	})
	return err
}

func (d *Dir) sweepFolder(alg, folder string) (freed int64, err error) {
	names, err := readNames(folder)
	for len(names) > 0 && err == nil {
		n := min(len(names), sweepBatch)
		var size int64
		size, err = d.sweepNames(alg, folder, names[:n])
		freed += size
		names = names[n:]
	}
	return freed, err
}

func (d *Dir) sweepNames(alg, folder string, names []string) (freed int64, err error) {
	d.sweep.Lock()
	defer d.sweep.Unlock()
	for _, name := range names {
		hex, _, _ := strings.Cut(name, "@")
		if d.linked[digest.Digest(alg+":"+hex)] {
			continue
		}
		path := folder + "/" + name
		if st, err := os.Lstat(path); err == nil && name == hex {
			freed += st.Size()
		}
		if err := d.disk.Remove(path); err != nil {
			return freed, err
		}
	}
	return freed, nil
}
