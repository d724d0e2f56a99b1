package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"iter"
	"os"
	"strconv"
)

// A record is its data, a newline, and the checksum of the data in hex: it is
// not synced, so a power loss may tear it.

func sealRecord(data []byte) []byte {
	sum := strconv.FormatUint(uint64(crc32.Checksum(data, castagnoli())), 16)
	out := make([]byte, 0, len(data)+1+len(sum)+1)
	out = append(append(out, data...), '\n')
	return append(append(out, sum...), '\n')
}

func openRecord(file []byte) ([]byte, bool) {
	body, ok := bytes.CutSuffix(file, []byte{'\n'})
	i := bytes.LastIndexByte(body, '\n')
	if !ok || i < 0 {
		return nil, false
	}
	data := body[:i]
	return data, bytes.Equal(sealRecord(data), file)
}

// castagnoli returns the table; the library makes it once.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

func (d *Dir) recordFolder(kind string) string { return d.path("records", escape(kind)) }

// PutRecord implements [Records].
func (d *Dir) PutRecord(ctx context.Context, kind string, r Record) error {
	if err := checkRecord(ctx, kind, r.Key); err != nil {
		return err
	}
	defer d.locked(kind, r.Key).Unlock()
	folder := d.recordFolder(kind)
	path, data := folder+"/"+escape(r.Key), sealRecord(r.Data)
	err := d.disk.WriteFile(path, data, false)
	if errors.Is(err, fs.ErrNotExist) {
		err = d.disk.MkdirAll(folder, func(parent string) { d.dirty.Dirty(parent) })
		if err == nil {
			err = d.disk.WriteFile(path, data, false)
		}
	}
	return recordError("put", kind, r.Key, err)
}

// DeleteRecord implements [Records].
func (d *Dir) DeleteRecord(ctx context.Context, kind, key string) error {
	if err := checkRecord(ctx, kind, key); err != nil {
		return err
	}
	defer d.locked(kind, key).Unlock()
	return recordError("delete", kind, key, d.disk.Remove(d.recordFolder(kind)+"/"+escape(key)))
}

func recordError(what, kind, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("store: %s record %s/%s: %w", what, kind, key, fullError(err))
}

// Records implements [Records]. What is put or deleted meanwhile may be there
// or not.
func (d *Dir) Records(ctx context.Context, kind string) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err := checkRecord(ctx, kind, "key"); err != nil {
			yield(Record{}, err)
			return
		}
		folder := d.recordFolder(kind)
		names, err := readNames(folder)
		if err != nil {
			yield(Record{}, err)
			return
		}
		for _, name := range names {
			key, ok := unescape(name)
			if !ok {
				continue
			}
			if err := ctx.Err(); err != nil {
				yield(Record{}, err)
				return
			}
			file, err := os.ReadFile(folder + "/" + name)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			data, whole := openRecord(file)
			switch {
			case err != nil:
				if !yield(Record{}, fmt.Errorf("store: record %s/%s: %w", kind, key, err)) {
					return
				}
			case whole && !yield(Record{Key: key, Data: data}, nil):
				return
			}
		}
	}
}
