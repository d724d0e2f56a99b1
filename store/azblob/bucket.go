package azblob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/pullthrough/pullthrough/internal/objectstore"
	"github.com/pullthrough/pullthrough/store"
)

// bucket is a container as a Bucket.
type bucket struct {
	container *container.Client
	name      string
}

// newBucket returns the Bucket of a container.
func newBucket(c *container.Client) *bucket {
	name, _, _ := strings.Cut(c.URL(), "?") // a SAS begins there
	return &bucket{c, name}
}

// String returns the address of the container without its query.
func (b *bucket) String() string { return b.name }

// fail returns an error of the SDK as one of a Bucket.
func (b *bucket) fail(ctx context.Context, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s/%s: %w", b, key, explain(ctx, err))
}

// blob returns the client of a blob, which shares the connections and tokens of the container's.
func (b *bucket) blob(key string) *blockblob.Client {
	return b.container.NewBlockBlobClient(blobName(key))
}

// blobName returns the name of the blob of a key. Azure forbids that a part of it ends with
// a dot, as tags may; a "!" is added there. It sorts before all that could follow the dot in
// the last part, so that lists of one folder keep their order.
func blobName(key string) string {
	if !strings.HasSuffix(key, ".") && !strings.Contains(key, "./") {
		return key
	}
	return strings.TrimSuffix(strings.ReplaceAll(key+"/", "./", ".!/"), "/")
}

// keyOf returns the key of the blob of that name.
func keyOf(name string) string {
	if !strings.HasSuffix(name, ".!") && !strings.Contains(name, ".!/") {
		return name
	}
	return strings.TrimSuffix(strings.ReplaceAll(name+"/", ".!/", "./"), "/")
}

// Head implements [objectstore.Bucket].
func (b *bucket) Head(ctx context.Context, key string) (objectstore.Object, error) {
	short, cancel := context.WithTimeout(ctx, smallTimeout)
	defer cancel()
	props, err := b.blob(key).GetProperties(short, nil)
	if err != nil {
		return objectstore.Object{}, b.fail(ctx, key, err)
	}
	return b.object(key, props.ContentLength, props.ETag)
}

// object describes a blob as a response does.
func (b *bucket) object(key string, size *int64, etag *azcore.ETag) (objectstore.Object, error) {
	if size == nil || etag == nil || *etag == "" {
		return objectstore.Object{}, fmt.Errorf("%s/%s: the response has no size or no ETag", b, key)
	}
	return objectstore.Object{Size: *size, ETag: string(*etag)}, nil
}

// Get implements [objectstore.Bucket].
func (b *bucket) Get(ctx context.Context, key string, offset int64) (objectstore.Object, io.ReadCloser, error) {
	resp, err := b.blob(key).DownloadStream(ctx, &blob.DownloadStreamOptions{Range: blob.HTTPRange{Offset: offset}})
	if err != nil {
		return objectstore.Object{}, nil, b.fail(ctx, key, err)
	}
	size := resp.ContentLength
	if offset > 0 {
		if size, err = rangeFrom(resp.ContentRange, offset); err != nil {
			resp.Body.Close()
			return objectstore.Object{}, nil, fmt.Errorf("%s/%s: %w", b, key, err)
		}
	}
	o, err := b.object(key, size, resp.ETag)
	if err != nil {
		resp.Body.Close()
		return o, nil, err
	}
	return o, &body{b, ctx, key, resp.Body}, nil
}

// rangeFrom returns the size of the whole blob from the header Content-Range of a response
// that was to begin at an offset.
func rangeFrom(header *string, offset int64) (*int64, error) {
	if header == nil {
		return nil, errors.New("the response to the request for a part has no Content-Range")
	}
	size, err := strconv.ParseInt((*header)[strings.LastIndexByte(*header, '/')+1:], 10, 64)
	if err != nil || !strings.HasPrefix(*header, fmt.Sprintf("bytes %d-", offset)) {
		return nil, fmt.Errorf("the response is another part than that from %d on", offset)
	}
	return &size, nil
}

// body is the body of a download, with errors that are safe to show.
type body struct {
	b   *bucket
	ctx context.Context
	key string
	r   io.ReadCloser
}

func (r *body) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && err != io.EOF {
		err = r.b.fail(r.ctx, r.key, err)
	}
	return n, err
}

func (r *body) Close() error { return r.r.Close() }

// Put implements [objectstore.Bucket].
func (b *bucket) Put(ctx context.Context, key string, data []byte, cond objectstore.Condition) error {
	short, cancel := context.WithTimeout(ctx, blockTimeout)
	defer cancel()
	m := newMark()
	_, err := b.blob(key).Upload(short, newPayload(data), &blockblob.UploadOptions{
		AccessConditions: conditions(cond), Metadata: m.metadata(cond),
	})
	return b.written(ctx, key, m, cond, b.fail(ctx, key, err))
}

// Delete implements [objectstore.Bucket]. Snapshots that somebody made go with the blob.
func (b *bucket) Delete(ctx context.Context, key string) error {
	short, cancel := context.WithTimeout(ctx, smallTimeout)
	defer cancel()
	include := blob.DeleteSnapshotsOptionTypeInclude
	_, err := b.blob(key).Delete(short, &blob.DeleteOptions{DeleteSnapshots: &include})
	if err = b.fail(ctx, key, err); errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// Unfinished implements [objectstore.Bucket]. It yields nothing: Azure drops blocks that
// were not committed after a week.
func (b *bucket) Unfinished(context.Context, string) iter.Seq2[objectstore.Unfinished, error] {
	return func(func(objectstore.Unfinished, error) bool) {}
}

// Abort implements [objectstore.Bucket].
func (b *bucket) Abort(ctx context.Context, _ objectstore.Unfinished) error { return ctx.Err() }
