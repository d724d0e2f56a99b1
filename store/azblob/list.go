package azblob

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/pullthrough/pullthrough/internal/objectstore"
)

// The first page of a list is small, since often only the first key is wanted; the others
// have as many keys as Azure allows.
const (
	firstPage = 100
	nextPages = 5000
)

// List implements [objectstore.Bucket]. Markers of Azure are opaque, so that a list begins
// at the beginning of its prefix: keys up to After cost a request for each 5,000 of them.
func (b *bucket) List(ctx context.Context, r objectstore.Range) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		var marker *string
		last, size := "", int32(firstPage)
		for {
			keys, next, err := b.page(ctx, r, marker, size)
			if err != nil {
				yield("", b.fail(ctx, r.Prefix, err))
				return
			}
			if !slices.IsSorted(keys) || len(keys) > 0 && keys[0] < last {
				yield("", fmt.Errorf("%s/%s: %w", b, r.Prefix, errOrder))
				return
			}
			for _, key := range keys {
				// A group can go on in the next page.
				if key != last && key > r.After && !yield(key, nil) {
					return
				}
				last = key
			}
			if next == nil || *next == "" {
				return
			}
			marker, size = next, nextPages
		}
	}
}

// errOrder reports a list that is not in the order of bytes, as those of accounts with a
// hierarchical namespace are, which sort a/b before a-b.
var errOrder = errors.New("the list is not in the order of its bytes: accounts with a hierarchical namespace cannot be used")

// page reads a page of a list: keys and groups in order.
func (b *bucket) page(ctx context.Context, r objectstore.Range, marker *string, size int32) (keys []string, next *string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, smallTimeout)
	defer cancel()
	prefix := strings.ReplaceAll(r.Prefix, "./", ".!/") // see blobName
	if r.Delimiter == "" {
		o := &container.ListBlobsFlatOptions{Prefix: &prefix, Marker: marker, MaxResults: &size}
		page, err := b.container.NewListBlobsFlatPager(o).NextPage(ctx)
		if err != nil {
			return nil, nil, err
		}
		if page.Segment != nil {
			keys = names(page.Segment.BlobItems)
		}
		return keys, page.NextMarker, nil
	}
	o := &container.ListBlobsHierarchyOptions{Prefix: &prefix, Marker: marker, MaxResults: &size}
	page, err := b.container.NewListBlobsHierarchyPager(r.Delimiter, o).NextPage(ctx)
	if err != nil {
		return nil, nil, err
	}
	if page.Segment != nil {
		keys = names(page.Segment.BlobItems)
		for _, p := range page.Segment.BlobPrefixes {
			if p != nil && p.Name != nil {
				keys = append(keys, keyOf(*p.Name))
			}
		}
		slices.Sort(keys) // groups come beside blobs
	}
	return keys, page.NextMarker, nil
}

func names(items []*container.BlobItem) []string {
	var keys []string
	for _, item := range items {
		if item != nil && item.Name != nil {
			keys = append(keys, keyOf(*item.Name))
		}
	}
	return keys
}
