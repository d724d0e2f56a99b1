// Package route is the one parser of what clients write in a URL: paths of the
// OCI distribution API, names, tags, digests, and Range headers.
package route

import (
	_ "crypto/sha256" // digests of these algorithms only validate if they are linked
	_ "crypto/sha512"
	"errors"
	"net/url"
	"strings"

	"github.com/opencontainers/go-digest"
	"oras.land/oras-go/v2/registry"
)

// Kind is what a path is about.
type Kind int

// The kinds of paths. Other is a path that the API does not have.
const (
	Other     Kind = iota
	Ping           // /v2/
	Catalog        // /v2/_catalog
	Manifest       // /v2/NAME/manifests/REFERENCE
	Blob           // /v2/NAME/blobs/DIGEST
	Tags           // /v2/NAME/tags/list
	Referrers      // /v2/NAME/referrers/DIGEST
	Upload         // /v2/NAME/blobs/uploads/...
)

var (
	// ErrPath reports a path that the API does not have.
	ErrPath = errors.New("route: no such path")
	// ErrName reports a repository name that is not valid.
	ErrName = errors.New("route: repository name is not valid")
	// ErrDigest reports a digest that is malformed or of an algorithm other
	// than sha256 and sha512.
	ErrDigest = errors.New("route: digest is not valid")
	// ErrTag reports a tag that cannot exist.
	ErrTag = errors.New("route: tag is not valid")
)

// Longest repository name that is accepted, in bytes.
const maxName = 255

// Request is a parsed path.
type Request struct {
	Kind       Kind
	Repository string        // empty for Ping, Catalog and Other
	Reference  string        // tag or digest as it is written
	Digest     digest.Digest // if the reference is one
}

// Parse parses a path. With an error, Kind and Repository are set as far as they
// are known.
func Parse(u *url.URL) (Request, error) {
	path := u.Path
	if u.RawPath != "" { // an escaped slash or dot is part of no name
		path = u.RawPath
	}
	rest, ok := strings.CutPrefix(path, "/v2")
	switch {
	case !ok:
		return Request{}, ErrPath
	case rest == "" || rest == "/":
		return Request{Kind: Ping}, nil
	case rest == "/_catalog":
		return Request{Kind: Catalog}, nil
	case rest[0] != '/':
		return Request{}, ErrPath
	}
	r, err := split(rest[1:])
	if err != nil {
		return r, err
	}
	if !validName(r.Repository) {
		return Request{Kind: r.Kind, Reference: r.Reference}, ErrName
	}
	if r.Kind == Tags || r.Kind == Upload {
		return r, nil
	}
	r.Digest, err = reference(r.Reference)
	if err == nil && r.Digest == "" && r.Kind != Manifest {
		err = ErrDigest
	}
	return r, err
}

// split finds the last keyword: a repository name may hold keywords too.
func split(path string) (Request, error) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return Request{}, ErrPath
	}
	head, last := path[:i], path[i+1:]
	if name, ok := strings.CutSuffix(head, "/tags"); ok && last == "list" {
		return Request{Kind: Tags, Repository: name}, nil
	}
	for _, k := range [...]struct {
		suffix string
		kind   Kind
	}{{"/manifests", Manifest}, {"/blobs", Blob}, {"/referrers", Referrers}} {
		name, ok := strings.CutSuffix(head, k.suffix)
		if !ok {
			continue
		}
		if k.kind == Blob && last == "uploads" {
			return Request{Kind: Upload, Repository: name}, nil
		}
		return Request{Kind: k.kind, Repository: name, Reference: last}, nil
	}
	if name, _, ok := strings.Cut(path, "/blobs/uploads/"); ok {
		return Request{Kind: Upload, Repository: name}, nil
	}
	return Request{}, ErrPath
}

func validName(name string) bool {
	return len(name) <= maxName && registry.Reference{Registry: "local", Repository: name}.ValidateRepository() == nil
}

// reference parses a tag or a digest.
func reference(s string) (digest.Digest, error) {
	if !strings.ContainsRune(s, ':') {
		if (registry.Reference{Registry: "local", Repository: "r", Reference: s}).ValidateReferenceAsTag() != nil {
			return "", ErrTag
		}
		return "", nil
	}
	d := digest.Digest(s)
	if d.Validate() != nil {
		return "", ErrDigest
	}
	switch d.Algorithm() {
	case digest.SHA256, digest.SHA512:
		return d, nil
	}
	return "", ErrDigest
}

// Reference checks a repository name and a reference that do not come from a
// path. The digest is empty if the reference is a tag.
func Reference(repository, ref string) (digest.Digest, error) {
	if !validName(repository) {
		return "", ErrName
	}
	return reference(ref)
}
