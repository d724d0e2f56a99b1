package store

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// tagRecord is a [Tag] as the index has it.
type tagRecord struct {
	ocispec.Descriptor
	Source string    `json:"source"`
	Asked  time.Time `json:"asked"`
}

func readTag(v []byte) (Tag, bool) {
	var r tagRecord
	switch {
	case len(v) == 0:
		return Tag{}, false
	case v[0] == packedTag:
		return unpackTag(v[1:])
	case json.Unmarshal(v, &r) != nil:
		return Tag{}, false
	}
	_, _, err := checkDigest(r.Digest)
	return Tag(r), err == nil
}

// packedTag begins the value of a tag whose descriptor has nothing but media type, digest
// and size, as almost all have: it is read with each first pull. Others are JSON.
const packedTag = 1

// tagValue is the value of a tag.
func tagValue(t Tag) ([]byte, error) {
	d := t.Descriptor
	if d.URLs != nil || d.Annotations != nil || d.Data != nil || d.Platform != nil || d.ArtifactType != "" {
		return json.Marshal(tagRecord(t))
	}
	v := binary.AppendVarint([]byte{packedTag}, d.Size)
	v = binary.AppendVarint(v, t.Asked.Unix())
	v = binary.AppendVarint(v, int64(t.Asked.Nanosecond()))
	return append(v, pack(d.MediaType, string(d.Digest), t.Source)...), nil
}

func unpackTag(v []byte) (t Tag, ok bool) {
	var n [3]int64
	for i := range n {
		x, k := binary.Varint(v)
		if k <= 0 {
			return Tag{}, false
		}
		n[i], v = x, v[k:]
	}
	var d string
	if !unpack(v, &t.MediaType, &d, &t.Source) {
		return Tag{}, false
	}
	t.Digest, t.Size, t.Asked = digest.Digest(d), n[0], time.Unix(n[1], n[2]).UTC()
	_, _, err := checkDigest(t.Digest)
	return t, err == nil
}

// Tag implements [Tags].
func (d *Dir) Tag(ctx context.Context, repo, tag string) (t Tag, err error) {
	if err := checkTagged(ctx, repo, tag); err != nil {
		return Tag{}, err
	}
	err = d.view(func(tx dirTx) error {
		var ok bool
		if t, ok = tx.tag(repo, tag); !ok {
			return ErrNotFound
		}
		return nil
	})
	if err != nil && err != ErrNotFound {
		err = fmt.Errorf("store: tag %s:%s: %w", repo, tag, storeError(err))
	}
	return t, err
}

func (t dirTx) tag(repo, tag string) (Tag, bool) { return readTag(t.Get(inRepos, tagKey(repo, tag))) }

// SetTag implements [Tags].
func (d *Dir) SetTag(ctx context.Context, repo, tag string, t Tag) error {
	if err := checkTagged(ctx, repo, tag); err != nil {
		return err
	}
	if err := CheckTagValue(t); err != nil {
		return err
	}
	t = t.Stored()
	data, err := tagValue(t)
	if err == nil {
		err = d.update(func(tx dirTx) error {
			_, err := tx.setTag(repo, tag, t, data)
			return err
		})
	}
	if err != nil && !errors.Is(err, ErrStale) {
		err = fmt.Errorf("store: tag %s:%s: %w", repo, tag, storeError(err))
	}
	return err
}

// setTag sets a tag, whose value is encoded in data, unless the stored one stays.
func (t dirTx) setTag(repo, tag string, value Tag, data []byte) (stays bool, err error) {
	if old, ok := t.tag(repo, tag); ok {
		if replaces, err := value.Replaces(old); !replaces {
			return true, err
		}
	}
	t.Put(inRepos, tagKey(repo, tag), data)
	return false, nil
}
