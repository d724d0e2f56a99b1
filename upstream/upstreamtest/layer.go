package upstreamtest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Layers makes n layers of exactly size bytes, all different, and the same in
// every run. See [Layer].
func Layers(n, size int) [][]byte {
	layers := make([][]byte, n)
	for i := range layers {
		layers[i] = Layer(uint64(i)<<40|uint64(size), size)
	}
	return layers
}

// Layer makes a layer of exactly size bytes from a seed: a gzip-compressed tar
// archive of one file of pseudo-random bytes, which runtimes can unpack. Where
// there is no room for a file the archive is empty, and what is too small for an
// archive, less than about 60 bytes, is pseudo-random bytes and nothing else.
func Layer(seed uint64, size int) []byte {
	random := Bytes(seed, size)
	// All but the file's bytes takes about that much. What is left of the size is
	// filled with the comment that gzip's header may have.
	const frame = 180
	if n := size - frame - size/storedBlock*storedFrame; n > 0 {
		if layer := archive(seed, random[:n], size); layer != nil {
			return layer
		}
	}
	if layer := archive(seed, nil, size); layer != nil {
		return layer
	}
	return random
}

// Random bytes cannot be compressed: the format has them in blocks.
const (
	storedBlock = 65535
	storedFrame = 5
)

// The least and the most that a comment takes: enough to tell two empty archives
// apart, and what the package compress/gzip reads.
const (
	minComment = 16
	maxComment = 511
)

// archive makes a layer of one file, or of none if file is nil. It returns nil if
// a comment cannot make up for the rest of the size.
func archive(seed uint64, file []byte, size int) []byte {
	var b bytes.Buffer
	b.Grow(size)
	z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err == nil {
		err = writeTar(z, fmt.Sprintf("file-%x", seed), file)
	}
	if err != nil {
		panic(fmt.Sprintf("%s: %v", name, err)) // it is written to memory
	}
	left := size - b.Len()
	if left < minComment || left > maxComment {
		return nil
	}
	comment := hex.EncodeToString(Bytes(seed, left))[:left-1]
	layer := b.Bytes()
	layer[flagsAt] |= flagComment
	return slices.Insert(layer, headerSize, append([]byte(comment), 0)...)
}

// The fixed part of gzip's header: its length, and the flag that a comment follows
// it, which ends with a zero byte.
const (
	headerSize  = 10
	flagsAt     = 3
	flagComment = 1 << 4
)

// writeTar writes an archive, and closes z. The bytes of the file are compressed
// apart from what is around them, so that their neighbourhood costs nothing.
func writeTar(z *gzip.Writer, name string, file []byte) error {
	w := tar.NewWriter(z)
	if file != nil {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(file))}); err != nil {
			return err
		}
		if err := z.Flush(); err != nil {
			return err
		}
		if _, err := w.Write(file); err != nil {
			return err
		}
		if err := z.Flush(); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return z.Close()
}

// Bytes makes size pseudo-random bytes from a seed.
func Bytes(seed uint64, size int) []byte {
	src := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24), byte(seed >> 32), byte(seed >> 40), byte(seed >> 48)})
	b := make([]byte, size)
	_, _ = src.Read(b)
	return b
}

// layerType is what a manifest and a config say of a layer: its media type, and
// the digest of what it is when it is not compressed.
func layerType(layer []byte) (mediaType string, diffID digest.Digest) {
	if compressed(layer) {
		z, err := gzip.NewReader(bytes.NewReader(layer))
		if err == nil {
			h := digest.Canonical.Digester()
			if _, err = io.Copy(h.Hash(), z); err == nil {
				return ocispec.MediaTypeImageLayerGzip, h.Digest()
			}
		}
	}
	return ocispec.MediaTypeImageLayer, digest.FromBytes(layer)
}

// compressed reports whether a layer begins as gzip does.
func compressed(layer []byte) bool { return bytes.HasPrefix(layer, []byte{0x1f, 0x8b, 0x08}) }
