package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/pullthrough/pullthrough/internal/index"
)

// Apply implements [Batcher]. A batch that only deletes works on a full disk, too.
func (d *Dir) Apply(ctx context.Context, b *Batch) error {
	if err := b.check(ctx); err != nil {
		return err
	}
	if len(b.Content) > 0 {
		if err := d.room(); err != nil {
			return err
		}
	}
	tags := make([][]byte, len(b.Tags))
	for i, t := range b.Tags {
		var err error
		if tags[i], err = tagValue(t.Value.Stored()); err != nil {
			return fmt.Errorf("store: tag %s:%s: %w", t.Repo, t.Tag, err)
		}
	}
	var files []content // to be removed
	do := func(t dirTx) error {
		files = t.apply(b, tags)
		return nil
	}
	var err error
	if b.onlyDeletes() {
		err = d.db.Free(func(t *index.Tx) error { return do(dirTx{t}) })
	} else {
		err = d.update(do)
	}
	if err != nil {
		return fmt.Errorf("store: batch: %w", storeError(err))
	}
	for _, c := range files {
		err = errors.Join(err, d.removeFile(c))
	}
	if err != nil { // what is left is swept
		d.log().Warn("the file of content that was deleted cannot be removed", "err", err)
	}
	return nil
}

// apply does a batch, and returns whose files are to be removed.
func (t dirTx) apply(b *Batch, tags [][]byte) (files []content) {
	for _, p := range b.Content {
		c, _ := contentOf(p.Info.Digest)
		if t.keep(p.Repo, c, p.Info.Stored(int64(len(p.Bytes))), p.Bytes) {
			files = append(files, c)
		}
	}
	for i := range b.Tags {
		change := &b.Tags[i]
		var stays bool
		stays, change.Err = t.setTag(change.Repo, change.Tag, change.Value.Stored(), tags[i])
		if !stays {
			t.changeRecords(change.Records)
		}
	}
	for _, del := range b.Deletions {
		files = append(files, t.delete(del)...)
	}
	t.changeRecords(b.Records)
	return files
}

// delete does a deletion of a batch, and returns whose files are to be removed.
func (t dirTx) delete(del Deletion) []content {
	if del.Tag != "" {
		if tag, ok := t.tag(del.Repo, del.Tag); ok && (del.Digest == "" || tag.Digest == del.Digest) {
			t.Delete(inRepos, tagKey(del.Repo, del.Tag))
		}
		return nil
	}
	c, _ := contentOf(del.Digest)
	if t.unlink(del.Repo, c) {
		return []content{c}
	}
	return nil
}

func (t dirTx) changeRecords(list []RecordChange) {
	for _, r := range list {
		if key := recordKey(r.Kind, r.Key); r.Data != nil {
			t.Put(inRecords, key, r.Data)
		} else {
			t.Delete(inRecords, key)
		}
	}
}
