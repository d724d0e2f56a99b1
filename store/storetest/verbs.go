package storetest

import (
	"bytes"
	"encoding/binary"
	"io"
	"maps"
	"math/rand/v2"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullthrough/pullthrough/store"
)

const (
	originA   = "https://a.example"
	originB   = "https://b.example"
	blobType  = "application/octet-stream"
	layerType = ocispec.MediaTypeImageLayerGzip
)

// piece is content and its Info.
type piece struct {
	store.Info
	data []byte
}

// blob returns n bytes that depend only on n and the seed.
func blob(seed uint64, n int, source string) piece {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	binary.LittleEndian.PutUint64(key[8:], uint64(n))
	data := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(data)
	p := piece{data: data}
	p.MediaType, p.Digest, p.Size, p.Source = layerType, digest.FromBytes(data), int64(n), source
	return p
}

// manifest returns bytes with the media type of a manifest.
func manifest(seed uint64, source string) piece {
	p := blob(seed, 400, source)
	p.MediaType = ocispec.MediaTypeImageManifest
	p.ArtifactType = "application/vnd.example.sbom"
	p.Annotations = map[string]string{"org.example": "yes"}
	return p
}

func (p piece) from(source string) piece {
	p.Source = source
	return p
}

func (p piece) as(mediaType string) piece {
	p.MediaType = mediaType
	return p
}

// blob returns p as the blob of an image.
func (p piece) blob() piece {
	p.Manifest = false
	return p
}

// write writes content without Commit.
func (k *kit) write(repo string, p piece) store.Writer {
	w, err := k.s.Create(k.ctx, repo, p.Info)
	ok(err, "Create in %s", repo)
	for rest := p.data; len(rest) > 0; {
		n := min(len(rest), 32<<10)
		m, err := w.Write(rest[:n])
		ok(err, "Write")
		if m != n {
			failf("Write returned %d of %d without an error", m, n)
		}
		rest = rest[n:]
	}
	return w
}

func (k *kit) put(repo string, p piece) {
	w := k.write(repo, p)
	ok(w.Commit(k.ctx), "Commit in %s", repo)
	ok(w.Close(), "Close after Commit")
}

// absent fails if content is visible.
func (k *kit) absent(repo string, p piece, when string) {
	_, err := k.s.Stat(k.ctx, repo, p.Digest)
	is(err, store.ErrNotFound, "Stat in %s %s", repo, when)
	_, r, err := k.s.Open(k.ctx, repo, p.Digest)
	if err == nil {
		r.Close()
	}
	is(err, store.ErrNotFound, "Open in %s %s", repo, when)
}

// present fails unless content reads back as it was written.
func (k *kit) present(repo string, p piece) {
	want := store.Info{Source: p.Source}
	want.Digest, want.Size, want.MediaType = p.Digest, int64(len(p.data)), blobType
	if p.IsManifest() {
		want.Manifest = !store.IsManifest(p.MediaType)
		want.MediaType, want.ArtifactType, want.Annotations = p.MediaType, p.ArtifactType, p.Annotations
		want.Subject = p.Subject
	}
	info, err := k.s.Stat(k.ctx, repo, p.Digest)
	ok(err, "Stat in %s", repo)
	same(info, want, "Stat")
	info, r, err := k.s.Open(k.ctx, repo, p.Digest)
	ok(err, "Open in %s", repo)
	defer r.Close()
	same(info, want, "Open")
	readsAs(r, p.data)
}

func same(got, want store.Info, what string) {
	if got.Digest != want.Digest || got.Size != want.Size || got.MediaType != want.MediaType ||
		got.Manifest != want.Manifest || got.Source != want.Source || got.Subject != want.Subject || got.ArtifactType != want.ArtifactType ||
		!maps.Equal(got.Annotations, want.Annotations) {
		failf("%s: got %+v, want %+v", what, got, want)
	}
}

func readsAs(r io.Reader, want []byte) {
	got := make([]byte, len(want)+1)
	n, err := io.ReadFull(r, got)
	if err != io.EOF && err != io.ErrUnexpectedEOF && err != nil {
		ok(err, "read")
	}
	if !bytes.Equal(got[:n], want) {
		failf("%d bytes were read that are not the %d bytes written", n, len(want))
	}
}

func allow(err error, calls *int) func(ctxType, io.ReadSeeker) error {
	return func(ctxType, io.ReadSeeker) error { *calls++; return err }
}
