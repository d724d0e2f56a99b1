// Package ociname holds the grammars of the names that registries use: of
// repositories, tags, digests and hosts. It is the only place that knows them.
//
// The grammars are written by hand and not as regular expressions, because they
// are on the path of every warm read: a name that is valid allocates nothing.
// What they accept is what the OCI specifications do; tests compare them with
// the libraries that define it.
package ociname

import (
	// A digest that is valid can be hashed: go-digest knows what is linked.
	_ "crypto/sha256"
	_ "crypto/sha512"
	"strings"
)

const (
	// MaxRepository is the length of the longest repository name that is sent or
	// accepted on the wire. The specification sets no limit, but registries and
	// clients commonly limit host and name together to 255 characters.
	MaxRepository = 255
	// maxWord is the length of the longest tag.
	maxWord = 128
)

// ValidRepository reports whether name is a repository name of the distribution
// specification, of at most longest bytes: see [MaxRepository].
func ValidRepository(name string, longest int) bool {
	if len(name) > longest {
		return false
	}
	for i := 0; ; i++ { // past the slash
		n := segment(name[i:])
		if n == 0 {
			return false
		}
		if i += n; i == len(name) {
			return true
		}
	}
}

// segment returns the length of the path segment that s begins with, or 0 if s
// begins with none. A segment is runs of a-z0-9, and between two of them '.',
// '_', '__' or any number of '-'.
func segment(s string) int {
	sep, i := 0, 0 // sep counts the bytes of the separator just before i
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

// ValidTag reports whether s is a tag of the distribution specification.
func ValidTag(s string) bool {
	return ValidWord(s) && s[0] != '.' && s[0] != '-'
}

// ValidWord reports whether s consists of what tags consist of, 1 to 128 ASCII
// letters, digits, '_', '.' and '-', in any order.
func ValidWord(s string) bool {
	if s == "" || len(s) > maxWord {
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

// ValidDigest reports whether s is a digest of one of the algorithms that the
// image specification registers, sha256 and sha512. It is stricter than
// go-digest, which accepts every algorithm that happens to be linked.
func ValidDigest(s string) bool {
	_, _, ok := SplitDigest(s)
	return ok
}

// SplitDigest returns the algorithm and the hexadecimal digits of a digest. It
// reports false for what [ValidDigest] refuses.
func SplitDigest(s string) (algorithm, hex string, ok bool) {
	algorithm, hex, _ = strings.Cut(s, ":")
	switch {
	case algorithm == "sha256" && len(hex) == 64:
	case algorithm == "sha512" && len(hex) == 128:
	default:
		return "", "", false
	}
	for i := range len(hex) {
		if c := hex[i]; c-'0' > 9 && c-'a' > 5 { // a byte below wraps around
			return "", "", false
		}
	}
	return algorithm, hex, true
}
