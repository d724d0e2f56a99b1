package store

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/ociname"
)

const (
	maxSegment    = 255  // NAME_MAX of every file system in use
	maxRepository = 2048 // leaves half of PATH_MAX for the rest; a name on the wire is shorter
	maxSource     = 1000 // the shortest limit of a symbolic link is 1,024
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

const hexDigits = "0123456789abcdef"

// escape makes a file name of a tag or key. Some disks do not distinguish A and a,
// and three bytes for each upper-case letter would make the name too long. So the
// file name is the name in lower case, followed, if that makes a difference, by '~'
// and a bit mask of the upper-case letters: four positions to a hex digit, lowest
// bit first, no zeros at the end.
func escape(name string) string {
	last := -1
	for i := range len(name) {
		if c := name[i]; 'A' <= c && c <= 'Z' {
			last = i
		}
	}
	if last < 0 {
		return name
	}
	out := make([]byte, 0, len(name)+1+last/4+1)
	mask := make([]byte, last/4+1)
	for i := range len(name) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			mask[i/4] |= 1 << (i % 4)
			c += 'a' - 'A'
		}
		out = append(out, c)
	}
	out = append(out, '~')
	for _, m := range mask {
		out = append(out, hexDigits[m])
	}
	return string(out)
}

// unescape is the inverse of escape. It reports false for what escape never returns.
func unescape(file string) (string, bool) {
	lower, mask, masked := strings.Cut(file, "~")
	name := []byte(lower)
	for i := range len(mask) {
		m := strings.IndexByte(hexDigits, mask[i])
		if m < 0 {
			return "", false
		}
		for b := range 4 {
			if m&(1<<b) == 0 {
				continue
			}
			p := i*4 + b
			if p >= len(name) || name[p] < 'a' || 'z' < name[p] {
				return "", false
			}
			name[p] -= 'a' - 'A'
		}
	}
	if masked && (mask == "" || mask[len(mask)-1] == '0') {
		return "", false
	}
	if s := string(name); ociname.ValidWord(s) && escape(s) == file {
		return s, true
	}
	return "", false
}
