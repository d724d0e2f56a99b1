package bucket

import (
	"bytes"
	"context"
	"fmt"
	"iter"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/pullthrough/pullthrough/internal/objectstore"
)

// upload implements [objectstore.Upload].
type upload struct {
	bucket *Bucket
	key    string
	id     string
	parts  []types.CompletedPart
	over   bool // completed or aborted
}

// Begin implements [objectstore.Bucket].
func (b *Bucket) Begin(ctx context.Context, key string) (objectstore.Upload, error) {
	out, err := b.Client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &b.Name, Key: &key})
	if err != nil {
		return nil, b.failure(ctx, key, err)
	}
	if aws.ToString(out.UploadId) == "" {
		return nil, fmt.Errorf("%s/%s: the server has given no name to the upload", b, key)
	}
	return &upload{bucket: b, key: key, id: *out.UploadId}, nil
}

// Part implements [objectstore.Upload].
func (u *upload) Part(ctx context.Context, data []byte) error {
	n := int32(len(u.parts) + 1)
	out, err := u.bucket.Client.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: &u.bucket.Name, Key: &u.key, UploadId: &u.id, PartNumber: &n,
		Body: bytes.NewReader(data), ContentMD5: sum(data),
	})
	if err != nil {
		return u.bucket.failure(ctx, u.key, err)
	}
	u.parts = append(u.parts, types.CompletedPart{ETag: out.ETag, PartNumber: &n})
	return nil
}

// Complete implements [objectstore.Upload].
func (u *upload) Complete(ctx context.Context, cond objectstore.Condition) error {
	in := &s3.CompleteMultipartUploadInput{
		Bucket: &u.bucket.Name, Key: &u.key, UploadId: &u.id,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: u.parts},
	}
	in.IfNoneMatch, in.IfMatch = condition(cond)
	_, err := u.bucket.Client.CompleteMultipartUpload(ctx, in)
	if err != nil {
		return u.bucket.written(ctx, u.key, err, cond)
	}
	u.over = true
	return nil
}

// Abort implements [objectstore.Upload].
func (u *upload) Abort(ctx context.Context) error {
	if u.over {
		return nil
	}
	err := u.bucket.Abort(ctx, objectstore.Unfinished{Key: u.key, ID: u.id})
	u.over = err == nil
	return err
}

// Unfinished implements [objectstore.Bucket].
func (b *Bucket) Unfinished(ctx context.Context, prefix string) iter.Seq2[objectstore.Unfinished, error] {
	return func(yield func(objectstore.Unfinished, error) bool) {
		in := &s3.ListMultipartUploadsInput{Bucket: &b.Name, Prefix: &prefix}
		for {
			page, err := b.Client.ListMultipartUploads(ctx, in)
			if err != nil {
				yield(objectstore.Unfinished{}, b.failure(ctx, prefix, err))
				return
			}
			for _, u := range page.Uploads {
				one := objectstore.Unfinished{Key: aws.ToString(u.Key), ID: aws.ToString(u.UploadId), Begun: aws.ToTime(u.Initiated)}
				if !yield(one, nil) {
					return
				}
			}
			if !aws.ToBool(page.IsTruncated) || aws.ToString(page.NextKeyMarker) == "" {
				return
			}
			in.KeyMarker, in.UploadIdMarker = page.NextKeyMarker, page.NextUploadIdMarker
		}
	}
}

// Abort implements [objectstore.Bucket].
func (b *Bucket) Abort(ctx context.Context, u objectstore.Unfinished) error {
	_, err := b.Client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &b.Name, Key: &u.Key, UploadId: &u.ID})
	return b.gone(ctx, u.Key, err)
}
