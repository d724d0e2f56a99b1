package store_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/pullthrough/pullthrough/store"
)

// Content is visible where it was linked, and nowhere else: another repository
// gets it by proof, not by knowing the digest.
func Example() {
	ctx := context.Background()
	var s store.Mem // or store.OpenDir(path)

	text := "a layer"
	want := store.Info{Source: "https://registry.example/team/app"}
	want.Digest, want.Size = digest.FromString(text), int64(len(text))

	w, err := s.Create(ctx, "team/app", want)
	if err != nil {
		log.Fatal(err)
	}
	defer w.Close()
	if _, err := io.Copy(w, strings.NewReader(text)); err != nil {
		log.Fatal(err)
	}
	if err := w.Commit(ctx); err != nil { // once the digest is verified
		log.Fatal(err)
	}

	_, err = s.Stat(ctx, "team/other", want.Digest)
	fmt.Println("other:", err)

	want.Source = "https://registry.example/team/other"
	err = s.Adopt(ctx, "team/other", want, func(context.Context, io.ReadSeeker) error {
		return nil // the registry said that this repository may read it
	})
	info, _ := s.Stat(ctx, "team/other", want.Digest)
	fmt.Println("other:", info.Size, "bytes from", info.Source, err)
	// Output:
	// other: store: not found
	// other: 7 bytes from https://registry.example/team/other <nil>
}
