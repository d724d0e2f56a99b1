package upstreamtest_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// unpack returns how many files a layer has, and the digest of the archive.
func unpack(layer []byte) (files int, diffID digest.Digest, err error) {
	z, err := gzip.NewReader(bytes.NewReader(layer))
	if err != nil {
		return 0, "", err
	}
	all, err := io.ReadAll(z)
	if err != nil {
		return 0, "", err
	}
	archive := tar.NewReader(bytes.NewReader(all))
	for {
		if _, err := archive.Next(); err == io.EOF {
			return files, digest.FromBytes(all), nil
		} else if err != nil {
			return files, "", err
		}
		if _, err := io.Copy(io.Discard, archive); err != nil {
			return files, "", err
		}
		files++
	}
}

func TestLayersAreArchivesOfExactlyThatSize(t *testing.T) {
	sizes := []int{60, 100, 179, 180, 181, 182, 200, 500, 65_000, 65_535, 65_536, 66_000, 131_070, 131_500, 1<<20 + 1}
	for size := 1000; size < 1020; size++ {
		sizes = append(sizes, size)
	}
	for _, size := range sizes {
		layers := upstreamtest.Layers(2, size)
		for _, l := range layers {
			files, _, err := unpack(l)
			if err != nil || len(l) != size || size > 200 && files != 1 {
				t.Fatalf("%d bytes: it has %d, with %d files, %v", size, len(l), files, err)
			}
		}
		if bytes.Equal(layers[0], layers[1]) || !bytes.Equal(layers[0], upstreamtest.Layers(1, size)[0]) {
			t.Errorf("%d bytes: layers are different, and the same in every run", size)
		}
	}
	for size := range 60 { // no archive, or an empty one
		if l := upstreamtest.Layer(7, size); len(l) != size {
			t.Errorf("%d bytes: it has %d", size, len(l))
		}
	}
}

func TestConfigsSayWhatLayersUnpackTo(t *testing.T) {
	up := upstreamtest.NewHandler()
	raw := upstreamtest.Bytes(1, 300)
	index := up.AddMultiPlatform("a", "v1", append(upstreamtest.Layers(2, 1000), raw), "amd64", "arm64")
	for _, img := range index.Children {
		var config ocispec.Image
		if err := json.Unmarshal(up.Blob("a", img.Config.Digest), &config); err != nil {
			t.Fatal(err)
		}
		for i, l := range img.Layers {
			body := up.Blob("a", l.Digest)
			_, want, err := unpack(body)
			mediaType := ocispec.MediaTypeImageLayerGzip
			if i == 2 { // random bytes stay what they are
				want, mediaType, err = digest.FromBytes(body), ocispec.MediaTypeImageLayer, nil
			}
			if err != nil || l.MediaType != mediaType || config.RootFS.DiffIDs[i] != want {
				t.Errorf("layer %d: %s, %s, %v", i, l.MediaType, config.RootFS.DiffIDs[i], err)
			}
		}
	}
}
