package store

import (
	"context"
	"maps"
	"os"
)

// errClosed reports the use of what is closed.
var errClosed = os.ErrClosed

// checkTagged checks what every call about a tag brings.
func checkTagged(ctx context.Context, repo, tag string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := checkTag(tag); err != nil {
		return err
	}
	return checkRepository(repo)
}

func checkTagValue(t Tag) error {
	if _, _, err := checkDigest(t.Digest); err != nil {
		return err
	}
	return checkSource(t.Source)
}

// storedTag is t as it reads back: what another process would know.
func storedTag(t Tag) Tag {
	t.Asked = t.Asked.Round(0).UTC()
	t.Annotations = maps.Clone(t.Annotations)
	return t
}

// compareTags reports whether the old tag stays and what SetTag says then.
func compareTags(old, t Tag) (stays bool, err error) {
	switch {
	case old.Source != t.Source:
		return false, nil
	case old.Asked.After(t.Asked):
		return true, ErrStale
	case old.Asked.Equal(t.Asked) && old.Digest == t.Digest:
		return true, nil
	}
	return false, nil
}
