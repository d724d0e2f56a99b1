// Command unittest is a small tool that uses the Go methods of a cache. Its test is the
// example: it shows how to test a program that pulls, without a network:
//
//	go test -v ./examples/unittest
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
)

func main() {
	fmt.Println("Summarize(ctx, cache, repository, tag, platform) tells what an image consists of.")
	fmt.Println("Its test is the example: go test -v ./examples/unittest")
}

// maxConfig is the most bytes that are read of a config.
const maxConfig = 4 << 20

// Summary describes an image.
type Summary struct {
	Digest       digest.Digest // of the tag
	Architecture string        // from the config
	Layers       int
	Bytes        int64 // of the layers, as they are transferred
}

// document has the fields of manifests and indexes that matter here.
type document struct {
	Config *struct {
		Digest digest.Digest `json:"digest"`
	} `json:"config"`
	Layers []struct {
		Size int64 `json:"size"`
	} `json:"layers"`
	Manifests []struct {
		Digest   digest.Digest `json:"digest"`
		Platform struct {
			OS           string `json:"os"`
			Architecture string `json:"architecture"`
		} `json:"platform"`
	} `json:"manifests"`
}

// Summarize describes the image of a tag. If the tag points to an index, it describes the
// image for the platform, such as "linux/arm64". Summarize itself fetches no layer; the cache
// copies the image in the background, as after every pull.
func Summarize(ctx context.Context, c *cache.Cache, repository, tag, platform string) (Summary, error) {
	desc, body, err := c.Manifest(ctx, repository, tag)
	if err != nil {
		return Summary{}, err
	}
	doc, err := parse(body)
	if err != nil {
		return Summary{}, err
	}
	if len(doc.Manifests) > 0 {
		if doc, err = choose(ctx, c, repository, doc, platform); err != nil {
			return Summary{}, err
		}
	}
	s := Summary{Digest: desc.Digest, Layers: len(doc.Layers)}
	for _, l := range doc.Layers {
		s.Bytes += l.Size
	}
	s.Architecture, err = architecture(ctx, c, repository, doc)
	return s, err
}

func parse(body []byte) (document, error) {
	var doc document
	err := json.Unmarshal(body, &doc)
	return doc, err
}

// choose gets the manifest of a platform.
func choose(ctx context.Context, c *cache.Cache, repository string, index document, platform string) (document, error) {
	for _, m := range index.Manifests {
		if !strings.EqualFold(m.Platform.OS+"/"+m.Platform.Architecture, platform) {
			continue
		}
		_, body, err := c.Manifest(ctx, repository, m.Digest.String())
		if err != nil {
			return document{}, err
		}
		return parse(body)
	}
	return document{}, fmt.Errorf("the index has no image for %s", platform)
}

// architecture returns the architecture that the config names.
func architecture(ctx context.Context, c *cache.Cache, repository string, doc document) (string, error) {
	if doc.Config == nil {
		return "", errors.New("the manifest has no config")
	}
	_, r, err := c.Blob(ctx, repository, doc.Config.Digest)
	if err != nil {
		return "", err
	}
	defer func() { _ = r.Close() }()
	body, err := io.ReadAll(io.LimitReader(r, maxConfig))
	if err != nil {
		return "", err
	}
	var config struct {
		Architecture string `json:"architecture"`
	}
	err = json.Unmarshal(body, &config)
	return config.Architecture, err
}
