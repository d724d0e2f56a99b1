package azblob

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pullthrough/pullthrough/internal/objectstore"
)

// Check tries, with blobs of its own, whether the container is there, whether everything is
// allowed that the store does, whether the service honours the conditions of writes (if not,
// the error is [ErrUnconditional]), and whether it lists in the order of bytes, which an
// account with a hierarchical namespace does not. It is meant for the start of a program. It
// leaves nothing behind.
func (s *Store) Check(ctx context.Context) error {
	if err := s.core.Check(ctx); err != nil {
		return err
	}
	root := strings.TrimPrefix(s.core.String(), s.bucket.String()+"/") + "check/" + rand.Text() + "/"
	keys := []string{root + "a-b", root + "a/b"}
	err := s.checkOrder(ctx, root, keys)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	for _, key := range keys {
		err = errors.Join(err, s.bucket.Delete(ctx, key))
	}
	return err
}

// checkOrder writes blobs and looks whether they are listed in the order of keys.
func (s *Store) checkOrder(ctx context.Context, root string, keys []string) error {
	for _, key := range keys {
		if err := s.bucket.Put(ctx, key, nil, objectstore.IfAbsent); err != nil {
			return err
		}
	}
	var listed []string
	for key, err := range s.bucket.List(ctx, objectstore.Range{Prefix: root}) {
		if err != nil {
			return err
		}
		listed = append(listed, key)
	}
	if !slices.Equal(listed, keys) {
		return fmt.Errorf("%s/%s: %w", s.bucket, root, errOrder)
	}
	return nil
}
