package store_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/store"
)

const tierSource = "https://registry.example.com/team/api"

// tierImage is an image with a config and layers.
type tierImage struct {
	blobs    []store.Piece // the config first
	manifest store.Piece
}

func newImage(repo, name string, layers int) tierImage {
	contents := [][]byte{[]byte(`{"name":"` + name + `"}`)}
	for i := range layers {
		contents = append(contents, bytes.Repeat([]byte(fmt.Sprint(name, i, ";")), 30_000))
	}
	return imageOf(repo, contents)
}

// imageOf is an image of a config and layers.
func imageOf(repo string, contents [][]byte) tierImage {
	var img tierImage
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	piece := func(mediaType string, data []byte) store.Piece {
		desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
		return store.Piece{Repo: repo, Info: store.Info{Descriptor: desc, Source: tierSource}, Bytes: data}
	}
	for i, data := range contents {
		p := piece(ocispec.MediaTypeImageLayer, data)
		if img.blobs = append(img.blobs, p); i == 0 {
			m.Config = p.Info.Descriptor
			m.Config.MediaType = ocispec.MediaTypeImageConfig
		} else {
			m.Layers = append(m.Layers, p.Info.Descriptor)
		}
	}
	text, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	img.manifest = piece(ocispec.MediaTypeImageManifest, text)
	return img
}

func (img tierImage) all() []store.Piece {
	return append(img.blobs[:len(img.blobs):len(img.blobs)], img.manifest)
}

func (img tierImage) tag() store.Tag {
	return store.Tag{Descriptor: img.manifest.Info.Descriptor, Source: tierSource}
}

// putPiece writes content.
func putPiece(ctx context.Context, s store.Store, p store.Piece) error {
	w, err := s.Create(ctx, p.Repo, p.Info)
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.Write(p.Bytes); err != nil {
		return err
	}
	return w.Commit(ctx)
}

// putImage writes an image in the order of a copy.
func putImage(t testing.TB, s store.Store, img tierImage) {
	t.Helper()
	for _, p := range img.all() {
		if err := putPiece(t.Context(), s, p); err != nil {
			t.Fatal(err)
		}
	}
}

// wantIn fails unless a store has an image with its bytes.
func wantIn(t testing.TB, what string, s store.Store, img tierImage) {
	t.Helper()
	for i, p := range img.all() {
		if err := readsPiece(t.Context(), s, p); err != nil {
			t.Errorf("%s: piece %d of %d: %v", what, i, len(img.all()), err)
		}
	}
}

func readsPiece(ctx context.Context, s store.Store, p store.Piece) error {
	info, r, err := s.Open(ctx, p.Repo, p.Info.Digest)
	if err != nil {
		return err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if !bytes.Equal(data, p.Bytes) || info.Source != p.Info.Source || info.IsManifest() != p.Info.IsManifest() {
		return fmt.Errorf("other bytes or another kind: %+v", info)
	}
	return nil
}
