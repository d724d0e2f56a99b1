// Package bucket makes a bucket of S3 what package objectstore needs of one.
package bucket

import (
	"bytes"
	"context"
	"crypto/fips140"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/pullthrough/pullthrough/internal/objectstore"
)

// Bucket is an [objectstore.Bucket] at S3.
type Bucket struct {
	// Client is as package s3 says.
	Client *s3.Client
	// Name is the name of the bucket.
	Name string
}

// String implements [objectstore.Bucket].
func (b *Bucket) String() string { return "s3://" + b.Name }

// Head implements [objectstore.Bucket]. An answer to HEAD has no body, so a bucket that is
// not there looks like an object that is not.
func (b *Bucket) Head(ctx context.Context, key string) (objectstore.Object, error) {
	out, err := b.Client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.Name, Key: &key})
	if err != nil {
		return objectstore.Object{}, b.missing(ctx, key, err)
	}
	return b.object(key, aws.ToInt64(out.ContentLength), out.ETag)
}

func (b *Bucket) object(key string, size int64, etag *string) (objectstore.Object, error) {
	if aws.ToString(etag) == "" {
		return objectstore.Object{}, fmt.Errorf("%s/%s: the server has sent no ETag", b, key)
	}
	return objectstore.Object{Size: size, ETag: *etag}, nil
}

// Get implements [objectstore.Bucket].
func (b *Bucket) Get(ctx context.Context, key string, offset int64) (objectstore.Object, io.ReadCloser, error) {
	in := &s3.GetObjectInput{Bucket: &b.Name, Key: &key}
	if offset > 0 {
		in.Range = aws.String("bytes=" + strconv.FormatInt(offset, 10) + "-")
	}
	out, err := b.Client.GetObject(ctx, in)
	if err != nil {
		return objectstore.Object{}, nil, b.missing(ctx, key, err)
	}
	size := aws.ToInt64(out.ContentLength)
	if offset > 0 {
		if size, err = wholeSize(aws.ToString(out.ContentRange), offset); err != nil {
			_ = out.Body.Close()
			return objectstore.Object{}, nil, fmt.Errorf("%s/%s: %w", b, key, err)
		}
	}
	o, err := b.object(key, size, out.ETag)
	if err != nil {
		_ = out.Body.Close()
		return objectstore.Object{}, nil, err
	}
	return o, out.Body, nil
}

// wholeSize returns the size of the whole of which a part was asked for, from an offset on.
func wholeSize(contentRange string, offset int64) (int64, error) {
	rest, ok := strings.CutPrefix(contentRange, "bytes "+strconv.FormatInt(offset, 10)+"-")
	last, whole, cut := strings.Cut(rest, "/")
	end, err := strconv.ParseInt(last, 10, 64)
	size, err2 := strconv.ParseInt(whole, 10, 64)
	if !ok || !cut || err != nil || err2 != nil || end+1 != size || size <= offset {
		return 0, fmt.Errorf("the server has answered %q to a request for the bytes from %d on", contentRange, offset)
	}
	return size, nil
}

// Put implements [objectstore.Bucket].
func (b *Bucket) Put(ctx context.Context, key string, data []byte, cond objectstore.Condition) error {
	in := &s3.PutObjectInput{Bucket: &b.Name, Key: &key, Body: bytes.NewReader(data), ContentMD5: sum(data)}
	in.IfNoneMatch, in.IfMatch = condition(cond)
	_, err := b.Client.PutObject(ctx, in)
	return b.written(ctx, key, err, cond)
}

// condition returns the values of If-None-Match and If-Match.
func condition(c objectstore.Condition) (none, match *string) {
	switch c {
	case objectstore.Always:
		return nil, nil
	case objectstore.IfAbsent:
		return aws.String("*"), nil
	}
	return nil, aws.String(string(c))
}

// sum returns the value of Content-MD5, by which the server sees whether the bytes have
// arrived as they were sent. All servers know it, unlike newer checksums. Where FIPS 140 is
// asked for there is none.
func sum(data []byte) *string {
	if fips140.Enabled() {
		return nil
	}
	h := md5.Sum(data)
	return aws.String(base64.StdEncoding.EncodeToString(h[:]))
}

// Delete implements [objectstore.Bucket].
func (b *Bucket) Delete(ctx context.Context, key string) error {
	_, err := b.Client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.Name, Key: &key})
	return b.gone(ctx, key, err)
}
