package store

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Names are checked by hand and not by the regular expressions of the libraries
// that define them: they are on the path of every warm read. Tests compare.

const (
	maxSegment    = 255  // NAME_MAX of every file system in use
	maxRepository = 2048 // leaves half of PATH_MAX for the rest
	maxSource     = 1000 // the shortest limit of a symbolic link is 1,024
)

// checkDigest returns the algorithm and the hex digits of a digest.
func checkDigest(d digest.Digest) (alg, hex string, err error) {
	s := string(d)
	switch {
	case len(s) == 7+64 && s[:7] == "sha256:":
		alg, hex = s[:6], s[7:]
	case len(s) == 7+128 && s[:7] == "sha512:":
		alg, hex = s[:6], s[7:]
	default:
		return "", "", fmt.Errorf("store: %q is not a sha256 or sha512 digest", s)
	}
	for i := range len(hex) {
		if c := hex[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return "", "", fmt.Errorf("store: %q is not a sha256 or sha512 digest", s)
		}
	}
	return alg, hex, nil
}

// checkRepository accepts the repository names of the OCI distribution
// specification, with segments that fit a file name. None begins with '_'.
func checkRepository(name string) error {
	if len(name) > maxRepository {
		return fmt.Errorf("store: the repository name %.64q... is longer than %d bytes", name, maxRepository)
	}
	for i := 0; ; {
		n := segment(name[i:])
		if n <= 0 {
			return fmt.Errorf("store: %q is not a repository name", name)
		}
		if n > maxSegment {
			return fmt.Errorf("store: a part of the repository name %.64q... is longer than %d bytes", name, maxSegment)
		}
		i += n
		if i == len(name) {
			return nil
		}
		i++ // the slash
	}
}

// segment returns the length of the path segment that s begins with, 0 if it
// is none: runs of a-z0-9, between them '.', '_', '__' or any number of '-'.
func segment(s string) int {
	sep, i := 0, 0 // sep: bytes of the separator just before i
	for ; i < len(s) && s[i] != '/'; i++ {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
			sep = 0
			continue
		case i == 0:
			return 0
		case c == '-':
			if sep > 0 && s[i-1] != '-' {
				return 0
			}
		case c == '_':
			if sep > 1 || sep == 1 && s[i-1] != '_' {
				return 0
			}
		case c == '.':
			if sep > 0 {
				return 0
			}
		default:
			return 0
		}
		sep++
	}
	if sep > 0 {
		return 0
	}
	return i
}

// checkTag accepts the tags of the OCI distribution specification.
func checkTag(tag string) error {
	if !isWord(tag) || tag[0] == '.' || tag[0] == '-' {
		return fmt.Errorf("store: %q is not a tag", tag)
	}
	return nil
}

// checkKey accepts the kinds and keys of records.
func checkKey(key string) error {
	if !isWord(key) || key[0] == '.' {
		return fmt.Errorf("store: %q is not the key of a record", key)
	}
	return nil
}

func isWord(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '_', c == '.', c == '-':
		default:
			return false
		}
	}
	return true
}

func checkSource(source string) error {
	if len(source) > maxSource || strings.IndexByte(source, 0) >= 0 {
		return fmt.Errorf("store: the source %.64q is too long or has a zero byte", source)
	}
	return nil
}

const hexDigits = "0123456789abcdef"

// escape makes a file name of a tag or key: some disks take A and a for the
// same, and three bytes for each upper-case letter would be too long a name.
// So it is the name in lower case and, if that makes a difference, '~' and a
// bit mask of the upper-case letters: four positions to a hex digit, lowest
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

// unescape is the inverse of escape; false for what escape never returns.
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
	if s := string(name); isWord(s) && escape(s) == file {
		return s, true
	}
	return "", false
}
