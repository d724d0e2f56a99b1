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

// Layers makes n different layers of exactly size bytes, which are equal in every run. See
// [Layer].
func Layers(n, size int) [][]byte {
	layers := make([][]byte, n)
	for i := range layers {
		layers[i] = Layer(uint64(i)<<40|uint64(size), size)
	}
	return layers
}

// Layer makes a layer of exactly size bytes from a seed: a gzip-compressed tar archive of
// one file of pseudo-random bytes, which runtimes can unpack. If size is too small for a
// file, the archive is empty; if it is too small for an archive, less than about 60 bytes,
// the layer is just pseudo-random bytes.
func Layer(seed uint64, size int) []byte {
	random := Bytes(seed, size)
	// frame is about the size of all but the file's bytes. The rest of size is filled
	// by a comment in the header of gzip.
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

// The format stores random bytes, which cannot be compressed, in blocks.
const (
	storedBlock = 65535
	storedFrame = 5
)

// The size of a comment: at least enough to make empty archives differ, and at most what the
// package compress/gzip can read.
const (
	minComment = 16
	maxComment = 511
)

// archive makes a layer of one file, or of none if file is nil. It returns nil if a comment
// cannot fill the rest of size.
func archive(seed uint64, file []byte, size int) []byte {
	var b bytes.Buffer
	b.Grow(size)
	z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err == nil {
		err = writeTar(z, fmt.Sprintf("file-%x", seed), file)
	}
	if err != nil {
		panic(fmt.Sprintf("%s: %v", name, err)) // writing to memory does not fail
	}
	left := size - b.Len()
	if left < minComment || left > maxComment {
		return nil
	}
	comment := hex.EncodeToString(Bytes(seed, left))[:left-1]
	layer := b.Bytes()
	layer[flagsOffset] |= flagComment
	return slices.Insert(layer, headerSize, append([]byte(comment), 0)...)
}

// The fixed part of gzip's header: its length, the offset of its flags, and the flag for a
// comment, which follows the header and ends with a zero byte.
const (
	headerSize  = 10
	flagsOffset = 3
	flagComment = 1 << 4
)

// writeTar writes an archive, and closes z. It flushes before and after the bytes of the
// file, so that their compressed size does not depend on what is around them.
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

// layerType returns the media type of a layer for its manifest, and the digest of the
// uncompressed layer for its config.
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

// compressed reports whether a layer begins with a header of gzip.
func compressed(layer []byte) bool { return bytes.HasPrefix(layer, []byte{0x1f, 0x8b, 0x08}) }
