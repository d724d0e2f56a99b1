package store

import (
	"bytes"
	"context"
	"fmt"
	"iter"

	"github.com/pullthrough/pullthrough/internal/index"
)

// PutRecord implements [Records].
func (d *Dir) PutRecord(ctx context.Context, kind, key string, data []byte) error {
	if err := checkRecord(ctx, kind, key); err != nil {
		return err
	}
	return recordError("put", kind, key, d.update(func(t dirTx) error {
		t.Put(inRecords, recordKey(kind, key), data)
		return nil
	}))
}

// Record implements [Records].
func (d *Dir) Record(ctx context.Context, kind, key string) (data []byte, err error) {
	if err := checkRecord(ctx, kind, key); err != nil {
		return nil, err
	}
	err = d.view(func(t dirTx) error {
		v := t.Get(inRecords, recordKey(kind, key))
		if v == nil {
			return ErrNotFound
		}
		data = append([]byte{}, v...)
		return nil
	})
	return data, recordError("read", kind, key, err)
}

// DeleteRecord implements [Records]. It works on a full disk, too.
func (d *Dir) DeleteRecord(ctx context.Context, kind, key string) error {
	if err := checkRecord(ctx, kind, key); err != nil {
		return err
	}
	return recordError("delete", kind, key, d.db.Free(func(t *index.Tx) error {
		t.Delete(inRecords, recordKey(kind, key))
		return nil
	}))
}

func recordError(what, kind, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("store: %s record %s/%s: %w", what, kind, key, storeError(err))
}

// RecordKeys implements [Records], in the order of the keys.
func (d *Dir) RecordKeys(ctx context.Context, kind string) iter.Seq2[string, error] {
	prefix := recordKey(kind, "")
	return pages(ctx, d, checkRecord(ctx, kind, "key"), prefix, func(t dirTx, from []byte, full func(int) bool) (keys []string, more []byte) {
		for k := range t.Entries(inRecords, prefix, from) {
			if full(len(keys)) {
				return keys, bytes.Clone(k)
			}
			keys = append(keys, string(k[len(prefix):]))
		}
		return keys, nil
	})
}
