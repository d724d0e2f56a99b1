package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/internal/durable"
)

// tagRecord is a [Tag] as its file has it.
type tagRecord struct {
	ocispec.Descriptor
	Source string    `json:"source"`
	Asked  time.Time `json:"asked"`
}

func (d *Dir) tagPath(repo, tag string) string {
	return d.path("repos", repo, tagLinks, escape(tag))
}

// Tag implements [Tags].
func (d *Dir) Tag(ctx context.Context, repo, tag string) (Tag, error) {
	if err := checkTagged(ctx, repo, tag); err != nil {
		return Tag{}, err
	}
	return d.readTag(d.tagPath(repo, tag))
}

func (d *Dir) readTag(path string) (Tag, error) {
	data, err := durable.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Tag{}, ErrNotFound
	}
	if err != nil {
		return Tag{}, fmt.Errorf("store: %w", err)
	}
	var r tagRecord
	if json.Unmarshal(data, &r) != nil {
		return Tag{}, ErrNotFound
	}
	if _, _, err := checkDigest(r.Digest); err != nil {
		return Tag{}, ErrNotFound
	}
	return Tag(r), nil
}

// SetTag implements [Tags].
func (d *Dir) SetTag(ctx context.Context, repo, tag string, t Tag) error {
	if err := checkTagged(ctx, repo, tag); err != nil {
		return err
	}
	if err := checkTagValue(t); err != nil {
		return err
	}
	if err := d.setTag(repo, tag, storedTag(t)); errors.Is(err, ErrStale) {
		return err
	} else if err != nil {
		return fmt.Errorf("store: tag %s:%s: %w", repo, tag, fullError(err))
	}
	return nil
}

func (d *Dir) setTag(repo, tag string, t Tag) error {
	path := d.tagPath(repo, tag)
	data, err := json.Marshal(tagRecord(t))
	if err != nil {
		return err
	}
	// What the tag will point to is durable before the tag is.
	if err := d.settle(repo); err != nil {
		return err
	}
	temp, err := d.disk.WriteTemp(data, true)
	if err != nil {
		return err
	}
	stays, err := d.placeTag(repo, tag, t, temp, path)
	if err != nil || stays {
		os.Remove(temp)
	}
	if err != nil {
		return err
	}
	if stays { // the call that wrote it may not have synced it yet
		d.changed(repo, d.path("repos", repo, tagLinks))
	}
	return d.settle(repo)
}

// placeTag compares the tag with the stored one and replaces that, as one step. It
// reports whether the stored one stays.
func (d *Dir) placeTag(repo, tag string, t Tag, temp, path string) (stays bool, err error) {
	defer d.locked(repo, tag).Unlock()
	old, err := d.readTag(path)
	if err == nil {
		if stays, err := compareTags(old, t); stays {
			return true, err
		}
	} else if !errors.Is(err, ErrNotFound) {
		return false, err
	}
	return false, d.at(repo, d.path("repos", repo, tagLinks), func() error { return d.disk.Rename(temp, path) })
}
