package bucket

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/pullthrough/pullthrough/internal/objectstore"
	"github.com/pullthrough/pullthrough/store"
)

// failure names the bucket and the key of what failed, and says what it means to the store.
func (b *Bucket) failure(ctx context.Context, key string, err error) error {
	if err == nil {
		return nil
	}
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		err = fmt.Errorf("%w: %w", ended, err)
	}
	err = fmt.Errorf("%s/%s: %w", b, key, err)
	if full(err) {
		err = fmt.Errorf("%w: %w", store.ErrFull, err)
	}
	return err
}

// missing is failure for reads: 404 means that the object is not there.
func (b *Bucket) missing(ctx context.Context, key string, err error) error {
	failed := b.failure(ctx, key, err)
	if status(err) == http.StatusNotFound && code(err) != "NoSuchBucket" {
		return fmt.Errorf("%w: %w", store.ErrNotFound, failed)
	}
	return failed
}

// written is failure for writes. 404, 409 and 412 mean that the condition does not hold, if
// there is one.
func (b *Bucket) written(ctx context.Context, key string, err error, cond objectstore.Condition) error {
	failed := b.failure(ctx, key, err)
	if cond == objectstore.Always || code(err) == "NoSuchBucket" {
		return failed
	}
	switch status(err) {
	case http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed:
		return fmt.Errorf("%w: %w", objectstore.ErrChanged, failed)
	}
	return failed
}

// gone is failure for deletions: 404 means that there was nothing to delete.
func (b *Bucket) gone(ctx context.Context, key string, err error) error {
	if status(err) == http.StatusNotFound && code(err) != "NoSuchBucket" {
		return nil
	}
	return b.failure(ctx, key, err)
}

// status returns the status of the answer that err reports, or 0.
func status(err error) int {
	if answer, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		return answer.HTTPStatusCode()
	}
	return 0
}

// code returns what S3 calls the error, or "".
func code(err error) string {
	if answer, ok := errors.AsType[smithy.APIError](err); ok {
		return answer.ErrorCode()
	}
	return ""
}

// full reports whether the server has no room: AWS has no such answer, others have several.
func full(err error) bool {
	codes := []string{"QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "InsufficientCapacity"}
	return status(err) == http.StatusInsufficientStorage || slices.Contains(codes, code(err))
}
