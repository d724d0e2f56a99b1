package store_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullthrough/pullthrough/store"
)

// payload is n bytes that differ with i.
func payload(i uint64, n int) (store.Info, []byte) {
	data := make([]byte, n)
	binary.LittleEndian.PutUint64(data, i)
	info := store.Info{Source: "https://registry.example/library/alpine"}
	info.Digest, info.Size = digest.FromBytes(data), int64(n)
	return info, data
}

func put(t testing.TB, s store.Store, repo string, info store.Info, data []byte) {
	ctx := context.Background()
	w, err := s.Create(ctx, repo, info)
	if err != nil {
		t.Error(err)
		return
	}
	defer w.Close()
	if _, err := w.Write(data); err != nil {
		t.Error(err)
	}
	if err := w.Commit(ctx); err != nil {
		t.Error(err)
	}
}

func BenchmarkWarm(b *testing.B) {
	ctx := context.Background()
	for name, s := range map[string]store.Store{"Dir": openDir(b, b.TempDir()), "Mem": new(store.Mem)} {
		info, data := payload(1, 2048)
		put(b, s, "hub/library/alpine", info, data)
		b.Run(name+"/Stat", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Stat(ctx, "hub/library/alpine", info.Digest); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/Open", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, r, err := s.Open(ctx, "hub/library/alpine", info.Digest)
				if err != nil {
					b.Fatal(err)
				}
				r.Close()
			}
		})
	}
	b.Run("os.Open and Stat", func(b *testing.B) {
		path := filepath.Join(b.TempDir(), "file")
		if err := os.WriteFile(path, make([]byte, 2048), 0o600); err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			f, err := os.Open(path)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := f.Stat(); err != nil {
				b.Fatal(err)
			}
			f.Close()
		}
	})
}

// BenchmarkSmall writes 2 KB objects from 32 goroutines.
func BenchmarkSmall(b *testing.B) {
	run := func(b *testing.B, f func(i uint64)) {
		var n atomic.Uint64
		b.SetParallelism(32 / runtime.GOMAXPROCS(0))
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				f(n.Add(1))
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "objects/s")
	}
	b.Run("bare files", func(b *testing.B) {
		dir := b.TempDir()
		run(b, func(i uint64) {
			info, data := payload(i, 2048)
			if err := os.WriteFile(filepath.Join(dir, info.Digest.Encoded()), data, 0o600); err != nil {
				b.Error(err)
			}
		})
	})
	b.Run("bare files, synced", func(b *testing.B) {
		dir := b.TempDir()
		run(b, func(i uint64) {
			info, data := payload(i, 2048)
			path := filepath.Join(dir, info.Digest.Encoded())
			f, err := os.Create(path + ".tmp")
			if err == nil {
				_, err = f.Write(data)
			}
			if err == nil {
				err = f.Sync()
			}
			if err == nil {
				err = f.Close()
			}
			if err == nil {
				err = os.Rename(path+".tmp", path)
			}
			if err != nil {
				b.Error(err)
			}
		})
	})
	b.Run("Create", func(b *testing.B) {
		d := openDir(b, b.TempDir())
		run(b, func(i uint64) {
			info, data := payload(i, 2048)
			put(b, d, "hub/library/alpine", info, data)
		})
	})
	b.Run("Spool", func(b *testing.B) {
		d := openDir(b, b.TempDir())
		run(b, func(i uint64) {
			info, data := payload(i, 2048)
			spoolOne(b, d, "hub/library/alpine", info, data)
		})
	})
	b.Run("Record", func(b *testing.B) {
		d := openDir(b, b.TempDir())
		run(b, func(i uint64) {
			_, data := payload(i, 2048)
			if err := d.PutRecord(context.Background(), "jobs", fmt.Sprint(i), data); err != nil {
				b.Error(err)
			}
		})
	})
	// An image: two blobs, the manifest, the tag, in a repository of its own.
	b.Run("image", func(b *testing.B) {
		d := openDir(b, b.TempDir())
		run(b, func(i uint64) {
			image(b, d, fmt.Sprintf("hub/library/app%d", i), i)
		})
		b.ReportMetric(0, "objects/s")
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "images/s")
	})
}

func spoolOne(b *testing.B, d *store.Dir, repo string, info store.Info, data []byte) {
	ctx := context.Background()
	s, err := d.Spool(ctx, repo, info)
	if err != nil {
		b.Error(err)
		return
	}
	defer s.Close()
	r, err := s.Open()
	if err != nil {
		b.Error(err)
		return
	}
	defer r.Close()
	if _, err := s.WriteAt(data, 0); err != nil {
		b.Error(err)
	}
	if n, err := io.Copy(io.Discard, r); n != info.Size || err != nil {
		b.Error(n, err)
	}
	if err := s.Commit(ctx, info); err != nil {
		b.Error(err)
	}
}

func image(b *testing.B, d *store.Dir, repo string, i uint64) {
	for j := range uint64(2) {
		info, data := payload(10*i+j, 2048)
		spoolOne(b, d, repo, info, data)
	}
	info, data := payload(10*i+5, 1024)
	info.MediaType = ocispec.MediaTypeImageManifest
	put(b, d, repo, info, data)
	if err := d.SetTag(context.Background(), repo, "latest", store.Tag{Descriptor: info.Descriptor, Source: info.Source}); err != nil {
		b.Error(err)
	}
}
