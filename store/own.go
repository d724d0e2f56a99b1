package store

// This file holds what stores of your own need to decide as those of this package do.

import (
	"fmt"
	"maps"

	"github.com/opencontainers/go-digest"
)

// CheckContent checks the arguments of a call about content, for stores of your own: the
// digest is sha256 or sha512 in lower case, and the repository a name of the OCI
// distribution specification, of 2,048 bytes at most, whose parts have 255 at most. So
// neither of them has a part that is ".." or begins with "_" or ".", and both are safe in
// paths and in the keys of an object store.
func CheckContent(repo string, d digest.Digest) error {
	if _, _, err := checkDigest(d); err != nil {
		return err
	}
	return checkRepository(repo)
}

// CheckInfo checks what is about to be written or linked, for stores of your own:
// what [CheckContent] checks, the Subject, and the Source, which has 1,000 bytes at most and
// no zero byte.
func CheckInfo(repo string, want Info) error {
	if err := CheckContent(repo, want.Digest); err != nil {
		return err
	}
	if want.Subject != "" {
		if _, _, err := checkDigest(want.Subject); err != nil {
			return fmt.Errorf("subject: %w", err)
		}
	}
	return checkSource(want.Source)
}

// CheckTag checks the arguments of a call about a tag, for stores of your own. A tag is one
// of the OCI distribution specification.
func CheckTag(repo, tag string) error {
	if err := checkTag(tag); err != nil {
		return err
	}
	return checkRepository(repo)
}

// CheckTagValue checks a tag that is about to be set, for stores of your own.
func CheckTagValue(t Tag) error {
	if _, _, err := checkDigest(t.Digest); err != nil {
		return err
	}
	return checkSource(t.Source)
}

// CheckRecord checks the arguments of a call about a record, for stores of your own. Both
// are words as [Records] describes them.
func CheckRecord(kind, key string) error {
	if err := checkKey(kind); err != nil {
		return err
	}
	return checkKey(key)
}

// Stored returns what a store keeps of i, for content of that many bytes: of a blob its
// digest and source alone, of a manifest the fields that [Info] names. It shares no map
// with i.
func (i Info) Stored(size int64) Info {
	got := Info{Source: i.Source}
	got.Digest, got.Size = i.Digest, size
	if !i.IsManifest() {
		got.MediaType = blobMediaType
		return got
	}
	got.MediaType, got.ArtifactType = i.MediaType, i.ArtifactType
	got.Manifest = !IsManifest(i.MediaType)
	got.Annotations = maps.Clone(i.Annotations)
	got.Subject = i.Subject
	return got
}

// Stored returns t as it reads back from a store, in this process and in a later one: Asked
// is in UTC and has no monotonic clock. It shares no map with t.
func (t Tag) Stored() Tag {
	t.Asked = t.Asked.Round(0).UTC()
	t.Annotations = maps.Clone(t.Annotations)
	return t
}

// Replaces reports whether SetTag puts t in the place of old, the stored tag. If not, SetTag
// returns the error: nil if old is the same answer as t, or [ErrStale] if it is a later one
// of the same Source. Tags of different sources replace one another.
func (t Tag) Replaces(old Tag) (bool, error) {
	switch {
	case old.Source != t.Source:
		return true, nil
	case old.Asked.After(t.Asked):
		return false, ErrStale
	case old.Asked.Equal(t.Asked) && old.Digest == t.Digest:
		return false, nil
	}
	return true, nil
}
