// Package route parses the paths of the distribution API and the Range header of
// requests. No other package does.
package route

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/ociname"
)

var (
	// ErrPath reports a path that the distribution API does not have.
	ErrPath = errors.New("route: not a path of the distribution API")
	// ErrName reports a repository name that is not valid.
	ErrName = errors.New("route: invalid repository name")
	// ErrDigest reports a digest that is not valid, or whose algorithm is
	// neither sha256 nor sha512.
	ErrDigest = errors.New("route: invalid digest")
	// ErrTag reports a tag that is not valid.
	ErrTag = errors.New("route: invalid tag")
)

// MaxName is the length of the longest repository name, in bytes.
const MaxName = ociname.MaxRepository

// Kind says to what a path leads.
type Kind int

const (
	// Unknown is a path of no known kind.
	Unknown   Kind = iota
	Ping           // /v2/
	Catalog        // /v2/_catalog
	Manifest       // /v2/NAME/manifests/TAG and /v2/NAME/manifests/DIGEST
	Blob           // /v2/NAME/blobs/DIGEST
	Upload         // /v2/NAME/blobs/uploads/ and below
	Tags           // /v2/NAME/tags/list
	Referrers      // /v2/NAME/referrers/DIGEST
)

// Request is a parsed path. Its strings share memory with the path.
type Request struct {
	Kind Kind
	// Repository is the repository name in the path. If Parse returns an error, it is
	// set only if the name itself is valid.
	Repository string
	// Reference is the last part of the path of a manifest, blob or referrer
	// list, valid or not.
	Reference string
	// Digest is Reference if that is a valid digest.
	Digest digest.Digest
}

// Parse parses the path of u. The errors are [ErrPath], [ErrName], [ErrDigest] and
// [ErrTag]; with an error, the request still holds the parts that are known. Escapes are
// undone once, but an escaped slash is an [ErrPath]: a segment that is one for a proxy
// in front of the cache must not be two for the cache. Dot segments and empty segments
// are not valid in any name.
func Parse(u *url.URL) (Request, error) {
	if escapedSlash(u.RawPath) {
		return Request{}, fmt.Errorf("%w: escaped slash", ErrPath)
	}
	rest, ok := strings.CutPrefix(u.Path, "/v2")
	if !ok || rest != "" && rest[0] != '/' {
		return Request{}, ErrPath
	}
	switch rest {
	case "", "/":
		return Request{Kind: Ping}, nil
	case "/_catalog":
		return Request{Kind: Catalog}, nil
	}
	name, keyword, reference := split(rest[1:])
	r := Request{Kind: keyword, Reference: reference}
	if keyword == Unknown {
		return r, ErrPath
	}
	if !ValidName(name) {
		return r, ErrName
	}
	r.Repository = name
	return r, r.check()
}

// check validates the reference, and sets Digest.
func (r *Request) check() error {
	switch {
	case r.Kind == Tags || r.Kind == Upload:
		return nil
	case r.Kind == Manifest && strings.IndexByte(r.Reference, ':') < 0:
		if !ociname.ValidTag(r.Reference) {
			return ErrTag
		}
		return nil
	case !ociname.ValidDigest(r.Reference):
		return ErrDigest
	}
	r.Digest = digest.Digest(r.Reference)
	return nil
}

// split splits a path at its last keyword, since segments of a name may be called
// manifests, blobs or tags too.
func split(path string) (name string, kind Kind, reference string) {
	if name, ok := cutSuffix(path, "tags/list"); ok {
		return name, Tags, ""
	}
	if name, ok := cutSuffix(path, "blobs/uploads"); ok {
		return name, Upload, ""
	}
	before, last := cutLast(path)
	if name, ok := cutSuffix(before, "blobs/uploads"); ok {
		return name, Upload, ""
	}
	name, keyword := cutLast(before)
	switch keyword {
	case "manifests":
		return name, Manifest, last
	case "blobs":
		return name, Blob, last
	case "referrers":
		return name, Referrers, last
	}
	return "", Unknown, ""
}

// cutSuffix removes whole segments from the end of a path.
func cutSuffix(path, segments string) (before string, ok bool) {
	before, ok = strings.CutSuffix(path, segments)
	if !ok || before == "" {
		return "", ok
	}
	return strings.CutSuffix(before, "/")
}

// cutLast removes the last segment of a path.
func cutLast(path string) (before, last string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}

// ValidName reports whether a repository name is valid.
func ValidName(name string) bool { return ociname.ValidRepository(name, MaxName) }

// escapedSlash looks for %2F. The raw path is empty unless the path holds
// escapes that are not the usual ones.
func escapedSlash(raw string) bool {
	for raw != "" {
		_, after, found := strings.Cut(raw, "%2")
		if found && after != "" && (after[0] == 'F' || after[0] == 'f') {
			return true
		}
		raw = after
	}
	return false
}

// Reference validates a repository name and a reference that do not come from a path.
// The digest is empty if the reference is a tag. The errors are [ErrName], [ErrDigest]
// and [ErrTag].
func Reference(repository, reference string) (digest.Digest, error) {
	if !ValidName(repository) {
		return "", ErrName
	}
	r := Request{Kind: Manifest, Reference: reference}
	err := r.check()
	return r.Digest, err
}
