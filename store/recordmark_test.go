package store_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/pullthrough/pullthrough/store"
)

// Killed between the new entry and the mark on the old one, a record that is then
// deleted does not come back as it was before.
func TestDeletedRecordStaysAway(t *testing.T) {
	path := t.TempDir()
	open := func() *store.Dir {
		d, err := store.OpenDir(path)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := open()
	ctx := t.Context()
	for _, v := range []string{"one", "two"} {
		if err := d.PutRecord(ctx, "jobs", "k", []byte(v)); err != nil {
			t.Fatal(err)
		}
	}
	d.Close()
	file := filepath.Join(path, "records", "jobs.log")
	data, err := os.ReadFile(file)
	if err != nil || !bytes.HasPrefix(data, []byte("del k")) {
		t.Fatal(err, string(data))
	}
	copy(data, "put") // the mark was not written yet
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	d = open()
	if got, err := d.Record(ctx, "jobs", "k"); err != nil || string(got) != "two" {
		t.Fatal(string(got), err)
	}
	if err := d.DeleteRecord(ctx, "jobs", "k"); err != nil {
		t.Fatal(err)
	}
	d.Close()
	d = open()
	defer d.Close()
	if got, err := d.Record(ctx, "jobs", "k"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a deleted record is back: %q, %v", got, err)
	}
}
