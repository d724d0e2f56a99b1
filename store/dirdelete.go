package store

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/index"
)

// Delete implements [Deleter]. It works on a full disk, too. The bytes are freed with
// their last link; a reader that is open already can still read them.
func (d *Dir) Delete(ctx context.Context, repo string, dgst digest.Digest) error {
	if err := checkContent(ctx, repo, dgst); err != nil {
		return err
	}
	c, err := contentOf(dgst)
	if err != nil {
		return err
	}
	var file bool
	err = d.db.Free(func(t *index.Tx) error {
		file = dirTx{t}.unlink(repo, c)
		return nil
	})
	if err == nil && file {
		err = d.removeFile(c)
	}
	return d.wrap("delete", repo, c, err)
}

// DeleteTag implements [Deleter]. It works on a full disk, too.
func (d *Dir) DeleteTag(ctx context.Context, repo, tag string) error {
	if err := checkTagged(ctx, repo, tag); err != nil {
		return err
	}
	err := d.db.Free(func(t *index.Tx) error {
		t.Delete(inRepos, tagKey(repo, tag))
		return nil
	})
	if err != nil {
		return fmt.Errorf("store: delete tag %s:%s: %w", repo, tag, storeError(err))
	}
	return nil
}
