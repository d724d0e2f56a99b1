package bucket

import (
	"context"
	"iter"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/pullthrough/pullthrough/internal/objectstore"
)

// List implements [objectstore.Bucket].
func (b *Bucket) List(ctx context.Context, r objectstore.Range) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		in := &s3.ListObjectsV2Input{Bucket: &b.Name, Prefix: &r.Prefix}
		if r.After != "" {
			in.StartAfter = &r.After
		}
		if r.Delimiter != "" {
			in.Delimiter = &r.Delimiter
		}
		pages := s3.NewListObjectsV2Paginator(b.Client, in)
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield("", b.failure(ctx, r.Prefix, err))
				return
			}
			for key := range inOrder(page) {
				if !yield(key, nil) {
					return
				}
			}
		}
	}
}

// inOrder yields the keys and the groups of keys of a page, which are apart there, each in
// their order.
func inOrder(page *s3.ListObjectsV2Output) iter.Seq[string] {
	return func(yield func(string) bool) {
		keys, groups := page.Contents, page.CommonPrefixes
		for len(keys)+len(groups) > 0 {
			var next string
			if len(groups) == 0 || len(keys) > 0 && aws.ToString(keys[0].Key) < aws.ToString(groups[0].Prefix) {
				next, keys = aws.ToString(keys[0].Key), keys[1:]
			} else {
				next, groups = aws.ToString(groups[0].Prefix), groups[1:]
			}
			if !yield(next) {
				return
			}
		}
	}
}
