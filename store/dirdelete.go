package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/durable"
)

// Delete implements [Deleter]. When it returns, the deletion is on disk. The bytes
// stay until [Dir.Sweep], and a file that is open already can be read even after that.
func (d *Dir) Delete(ctx context.Context, repo string, dgst digest.Digest) error {
	if err := checkContent(ctx, repo, dgst); err != nil {
		return err
	}
	c, err := contentOf(dgst)
	if err != nil {
		return err
	}
	if err := d.unlink(repo, c); err != nil {
		return d.wrap("delete", repo, c, err)
	}
	return d.wrap("delete", repo, c, d.settle(repo))
}

// unlink removes what names content in a repository: its links, and its entry among
// the referrers of its subject.
func (d *Dir) unlink(repo string, c content) error {
	defer d.locked(repo, c.hex).Unlock()
	info, err := d.findManifest(repo, c)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	for _, kind := range []string{manifestLinks, blobLinks} {
		path := d.linkPath(repo, kind, c)
		if !durable.Exists(path) {
			continue
		}
		if err := d.disk.Remove(path); err != nil {
			return err
		}
		d.changed(repo, d.path("repos", repo, kind))
	}
	if s, err := contentOf(info.Subject); err == nil {
		return d.disk.Remove(d.referrerFolder(repo, s) + "/" + c.alg + "-" + c.hex)
	}
	return nil
}

// DeleteTag implements [Deleter]. When it returns, the deletion is on disk.
func (d *Dir) DeleteTag(ctx context.Context, repo, tag string) error {
	if err := checkTagged(ctx, repo, tag); err != nil {
		return err
	}
	path := d.tagPath(repo, tag)
	err := func() error {
		defer d.locked(repo, tag).Unlock()
		if !durable.Exists(path) {
			return nil
		}
		if err := d.disk.Remove(path); err != nil {
			return err
		}
		// After the removal: a sync that ran between would not cover it.
		d.changed(repo, d.path("repos", repo, tagLinks))
		return nil
	}()
	if err == nil {
		err = d.settle(repo)
	}
	if err != nil {
		return fmt.Errorf("store: delete tag %s:%s: %w", repo, tag, err)
	}
	return nil
}
