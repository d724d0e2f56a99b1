package store

import (
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"slices"
	"testing"
	"testing/synctest"
)

// step makes the errors of a list those of a call.
func step[T any](list iter.Seq2[T, error]) error {
	n := 0
	var last error
	for _, err := range list {
		n++
		last = err
	}
	if n != 1 {
		return errors.New("the list did not end with its error")
	}
	return last
}

func TestNothingAfterClose(t *testing.T) {
	for _, size := range []int{100, 100 << 10} {
		d := newDir(t, t.TempDir())
		d.MinFree = -1
		info, data := content1("content", size)
		value := Tag{Descriptor: info.Descriptor, Source: info.Source}
		if err := errors.Join(create(t, d, "a", info, data), d.SetTag(t.Context(), "a", "v1", value), d.PutRecord(t.Context(), "jobs", "a", nil)); err != nil {
			t.Fatal(err)
		}
		keepPart(t, d, "part", 100<<10)
		before, err := readNames(d.path("partial"))
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		never := func(context.Context, io.ReadSeeker) error { t.Error("Adopt called allowed"); return nil }
		ignored := func(_ any, err error) error { return err }
		_, _, open := d.Open(ctx, "a", info.Digest)
		for what, err := range map[string]error{
			"Stat": ignored(d.Stat(ctx, "a", info.Digest)), "Open": open,
			"Create": ignored(d.Create(ctx, "a", info)), "Spool": ignored(d.Spool(ctx, "a", info)),
			"Adopt": d.Adopt(ctx, "b", info, never),
			"Tag":   ignored(d.Tag(ctx, "a", "v1")), "SetTag": d.SetTag(ctx, "a", "v2", value),
			"Delete": d.Delete(ctx, "a", info.Digest), "DeleteTag": d.DeleteTag(ctx, "a", "v1"),
			"PutRecord": d.PutRecord(ctx, "jobs", "b", nil), "Record": ignored(d.Record(ctx, "jobs", "a")), "DeleteRecord": d.DeleteRecord(ctx, "jobs", "a"),
			"RecordKeys": step(d.RecordKeys(ctx, "jobs")), "Repositories": step(d.Repositories(ctx, "")), "TagNames": step(d.TagNames(ctx, "a", "")),
			"Referrers": step(d.Referrers(ctx, "a", info.Digest)), "Manifests": step(d.Manifests(ctx, "a")), "Blobs": step(d.Blobs(ctx, "a")),
			"Apply with content": d.Apply(ctx, &Batch{Content: []Piece{{"a", info, data}}}), "Apply of nothing": d.Apply(ctx, new(Batch)),
			"Apply with a tag": d.Apply(ctx, &Batch{Tags: []TagChange{{Repo: "a", Tag: "v2", Value: value}}}),
			"Apply that frees": d.Apply(ctx, &Batch{Deletions: []Deletion{{Repo: "a", Tag: "v1"}}}),
			"Size":             ignored(d.Size(ctx)), "RepositorySize": ignored(d.RepositorySize(ctx, "a")), "Sweep": ignored(d.Sweep(ctx)),
			"Check": d.Check(ctx, CheckOptions{Repair: true}, func(f Fault) { t.Errorf("Check after Close found %+v", f) }),
		} {
			if !errors.Is(err, os.ErrClosed) {
				t.Errorf("%s after Close: %v", what, err)
			}
		}
		d.RecordUse("a", info.Digest)
		after, err := readNames(d.path("partial"))
		slices.Sort(before)
		slices.Sort(after)
		if err != nil || !slices.Equal(before, after) {
			t.Errorf("Close left %q in partial, and then there was %q, %v", before, after, err)
		}
		next := newDir(t, d.root)
		wantBlob(t, next, "a", info.Digest, data)
	}
}

// A list that is read while the store is closed ends with an error.
func TestCloseEndsLists(t *testing.T) {
	d := newDir(t, t.TempDir())
	d.disk.NoSync = true
	var b Batch
	for i := range pageSize + 10 {
		info, data := content1("content"+string(rune('a'+i%26)), 1000+i)
		b.Content = append(b.Content, Piece{"a", info, data})
	}
	if err := d.Apply(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	n := 0
	var last error
	for _, err := range d.Blobs(t.Context(), "a") {
		if n++; n == 1 {
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
		}
		last = err
	}
	if n != pageSize+1 || !errors.Is(last, os.ErrClosed) {
		t.Errorf("%d steps, the last with %v", n, last)
	}
}

func TestSizesOutliveTheProcess(t *testing.T) {
	path := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d := newDir(t, path)
		d.free = func(string) (int64, int64, bool) { return 70, 100, true }
		small, smallData := content1("small", 1000)
		big, bigData := content1("big", 100<<10)
		for _, err := range []error{
			create(t, d, "a", small, smallData), create(t, d, "a", big, bigData), create(t, d, "b", big, bigData),
			d.SetTag(t.Context(), "c", "v1", Tag{Descriptor: small.Descriptor}),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		check := func(content, a, b int64) {
			t.Helper()
			s, err := d.Size(t.Context())
			if err != nil || s.Content != content || s.Overhead <= 0 {
				t.Errorf("Size: %+v, %v", s, err)
			}
			for repo, want := range map[string]int64{"a": a, "b": b, "c": 0, "d": 0} {
				if n, err := d.RepositorySize(t.Context(), repo); err != nil || n != want {
					t.Errorf("RepositorySize of %s: %d, %v, want %d", repo, n, err, want)
				}
			}
		}
		check(1000+100<<10, 1000+100<<10, 100<<10)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		d = newDir(t, path)
		check(1000+100<<10, 1000+100<<10, 100<<10)
		// The same content as a file, and in the index.
		if err := d.Apply(t.Context(), &Batch{Content: []Piece{{"a", big, bigData}}}); err != nil {
			t.Fatal(err)
		}
		check(1000+100<<10, 1000+100<<10, 100<<10)
		if err := errors.Join(d.Delete(t.Context(), "a", big.Digest), d.Delete(t.Context(), "a", small.Digest)); err != nil {
			t.Fatal(err)
		}
		d.crash()
		d = newDir(t, path)
		defer d.Close()
		check(100<<10, 0, 100<<10)
		wantBlob(t, d, "b", big.Digest, bigData)
	})
}

func TestFreeIsWhatMayBeStored(t *testing.T) {
	for _, c := range []struct {
		minFree         float64
		free, all, want int64
		known           bool
	}{
		{0.5, 70, 100, 20, true}, {0.5, 40, 100, 0, true}, {0, 70, 100, 65, true}, {-1, 70, 100, 70, true}, {0.5, 70, 100, -1, false},
	} {
		d := newDir(t, t.TempDir())
		d.MinFree = c.minFree
		d.free = func(string) (int64, int64, bool) { return c.free, c.all, c.known }
		if s, err := d.Size(t.Context()); err != nil || s.Free != c.want {
			t.Errorf("%+v: %+v, %v", c, s, err)
		}
	}
}
