package store

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/ociname"
)

const (
	maxSegment    = 255  // NAME_MAX of file systems, which stores may use
	maxRepository = 2048 // a name on the wire is shorter
	maxSource     = 1000
)

// checkDigest returns the algorithm and the hex digits of a digest.
func checkDigest(d digest.Digest) (alg, hex string, err error) {
	alg, hex, ok := ociname.SplitDigest(string(d))
	if !ok {
		return "", "", fmt.Errorf("store: %q is not a sha256 or sha512 digest", string(d))
	}
	return alg, hex, nil
}

// checkRepository accepts the repository names of the OCI distribution
// specification, with segments that fit a file name. None begins with '_'.
func checkRepository(name string) error {
	if len(name) > maxRepository {
		return fmt.Errorf("store: the repository name %.64q... is longer than %d bytes", name, maxRepository)
	}
	if !ociname.ValidRepository(name, maxRepository) {
		return fmt.Errorf("store: %q is not a repository name", name)
	}
	if len(name) <= maxSegment {
		return nil
	}
	for segment := range strings.SplitSeq(name, "/") {
		if len(segment) > maxSegment {
			return fmt.Errorf("store: a part of the repository name %.64q... is longer than %d bytes", name, maxSegment)
		}
	}
	return nil
}

// checkTag accepts the tags of the OCI distribution specification.
func checkTag(tag string) error {
	if !ociname.ValidTag(tag) {
		return fmt.Errorf("store: %q is not a tag", tag)
	}
	return nil
}

// checkKey accepts the kinds and keys of records.
func checkKey(key string) error {
	if !ociname.ValidWord(key) || key[0] == '.' {
		return fmt.Errorf("store: %q is not the key of a record", key)
	}
	return nil
}

func checkSource(source string) error {
	if len(source) > maxSource || strings.IndexByte(source, 0) >= 0 {
		return fmt.Errorf("store: the source %.64q is too long or has a zero byte", source)
	}
	return nil
}
