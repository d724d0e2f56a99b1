package webhook_test

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"

	"github.com/pullthrough/pullthrough/store"
)

// spoil overwrites the first page of a bucket.
func spoil(t *testing.T, path, bucket string) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	var at int64
	err = db.View(func(tx *bolt.Tx) error {
		at = int64(tx.Bucket([]byte(bucket)).Root()) * int64(db.Info().PageSize)
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil || at == 0 {
		t.Fatalf("the bucket begins at %d, %v", at, err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		_, err = f.WriteAt(make([]byte, 4096), at)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Events that wait when the database of the store is damaged are delivered after it was
// begun anew.
func TestEventsOutliveDamage(t *testing.T) {
	path := t.TempDir()
	const events, images = 50, 200
	tell(t, func(t *testing.T) {
		dir := openDir(t, path)
		a := newReceiver("a")
		a.fail(errDown)
		box := outbox(t, dir, nil, a)
		var batch store.Batch
		for i := range images {
			text := []byte(fmt.Sprint("image ", i))
			info := store.Info{Source: "https://a.example/x", Descriptor: ocispec.Descriptor{
				Digest: digest.FromBytes(text), Size: int64(len(text)), MediaType: ocispec.MediaTypeImageManifest}}
			batch.Content = append(batch.Content, store.Piece{Repo: "team/app", Info: info, Bytes: text})
		}
		if err := dir.Apply(t.Context(), &batch); err != nil {
			t.Fatal(err)
		}
		for i := range events {
			box.send(numbered(i))
		}
		if err := errors.Join(box.Shutdown(t.Context()), dir.Close()); err != nil {
			t.Error(err)
		}
	})
	spoil(t, path+"/index.db", "repos")
	tell(t, func(t *testing.T) {
		dir := openDir(t, path)
		for _, err := range dir.Repositories(t.Context(), "") {
			if !errors.Is(err, store.ErrDamaged) {
				t.Errorf("a damaged list: %v", err)
			}
		}
		if err := dir.Close(); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("Close: %v", err)
		}
		dir = openDir(t, path)
		if !errors.Is(dir.Rebuilt(), store.ErrDamaged) {
			t.Fatalf("Rebuilt: %v", dir.Rebuilt())
		}
		a := newReceiver("a")
		box := outbox(t, dir, nil, a)
		if err := box.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		wait(24 * time.Hour)
		got := map[string]bool{}
		for _, id := range a.got() {
			got[id] = true
		}
		if len(got) != events || len(keys(t, dir)) != 0 {
			t.Errorf("%d of %d events are delivered, %d records are left", len(got), events, len(keys(t, dir)))
		}
	})
}
