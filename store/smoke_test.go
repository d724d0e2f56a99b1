package store

import (
	"context"
	"io"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestSmoke(t *testing.T) {
	dir, err := OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for _, s := range []Store{&Mem{}, dir} {
		ctx := context.Background()
		want := Info{Source: "https://a/x"}
		want.Digest, want.Size = digest.FromString("hello"), 5
		w, err := s.Create(ctx, "a/b", want)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, "hello")
		if err := w.Commit(ctx); err != nil {
			t.Fatal(err)
		}
		info, r, err := s.Open(ctx, "a/b", want.Digest)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		t.Log(info, string(data), err)
		sp, err := s.(Spooler).Spool(ctx, "a", want)
		if err != nil {
			t.Fatal(err)
		}
		sp.WriteAt([]byte("lo"), 3)
		sp.WriteAt([]byte("hel"), 0)
		if err := sp.Commit(ctx, want); err != nil {
			t.Fatal(err)
		}
		sp.Close()
		t.Log(s.Stat(ctx, "a", want.Digest))
	}
}
