package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

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
	if v == nil || json.Unmarshal(v, &r) != nil {
		return Tag{}, false
	}
	_, _, err := checkDigest(r.Digest)
	return Tag(r), err == nil
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
	if err := checkTagValue(t); err != nil {
		return err
	}
	t = storedTag(t)
	data, err := json.Marshal(tagRecord(t))
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
		if stays, err := compareTags(old, value); stays {
			return true, err
		}
	}
	t.Put(inRepos, tagKey(repo, tag), data)
	return false, nil
}
