package objectstore

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"
)

// PartSize is how many bytes each part of an upload has, but the last. A [Store] holds one
// part in memory for each Writer.
const PartSize = 8 << 20

// MaxParts is how many parts an upload may have.
const MaxParts = 10000

// MaxKey is how many bytes a key may have.
const MaxKey = 1024

// ErrChanged reports that a conditional write has not taken place, since the condition did
// not hold. Servers say so in three ways, which all mean the same here: 412, 409 if another
// write of the key was under way, and 404 if the object that had to be there is gone, or
// the upload that was to be completed.
var ErrChanged = errors.New("the object has changed")

// Condition is what must hold of the object that a write is to replace: Always, IfAbsent, or
// the ETag that it must have.
type Condition string

const (
	// Always is no condition.
	Always Condition = ""
	// IfAbsent holds if there is no object of that key (If-None-Match: *).
	IfAbsent Condition = "*"
)

// IfMatch holds if the object is the one that was read with that ETag (If-Match).
func IfMatch(etag string) Condition { return Condition(etag) }

// Object describes an object.
type Object struct {
	// Size is the number of bytes of the whole object, also if a part of it was asked for.
	Size int64
	// ETag names this version of the object, as the server spells it. It is never empty.
	ETag string
}

// Bucket is what a [Store] needs of an object store. Adapters are thin: they make a request
// of each call and an error of its answer. They may repeat a request whose answer was lost,
// since every caller takes ErrChanged for what a repeated write of its own may be.
//
// Package buckettest checks the laws that are stated here.
//
// A Bucket is safe for concurrent use. What a write has written is seen by every later
// read, also of other processes. All methods return the error of ctx when that ends. Errors
// name the bucket, the key and the cause, and have no credentials in them. An object that is
// not there is [store.ErrNotFound]; a bucket that is not there is any other error, lest a
// bucket whose name is wrong be taken for an empty one. A server that has no room for a
// write is [store.ErrFull].
//
// Keys have between 1 and MaxKey bytes of [A-Za-z0-9._/!-], no part that is empty or begins
// with a dot, and no key is another one's folder.
type Bucket interface {
	// String names the bucket for errors, such as s3://images.
	String() string

	// Head describes an object.
	Head(ctx context.Context, key string) (Object, error)

	// Get reads an object from an offset on, which is 0 or less than its size. The Object
	// and the bytes are of one version. The body ends with io.EOF after the last byte and
	// with another error if it was cut; it ends, too, when ctx is done. The caller closes it.
	Get(ctx context.Context, key string, offset int64) (Object, io.ReadCloser, error)

	// Put writes an object as a whole, if the condition holds, and returns ErrChanged
	// otherwise. Of several at once with IfAbsent, or with one ETag, one succeeds. The
	// ETag of what is written differs from that of what was there, unless the bytes are
	// the same. Put does not keep data.
	Put(ctx context.Context, key string, data []byte, cond Condition) error

	// Delete deletes an object. One that is not there is no error.
	Delete(ctx context.Context, key string) error

	// List yields the keys that r selects, in the order of their bytes. What is written
	// or deleted meanwhile may be yielded or not. It asks the server page by page, so
	// that its memory is bounded, and yields an error at most once, as the last pair.
	List(ctx context.Context, r Range) iter.Seq2[string, error]

	// Begin begins an object that is written in parts. Nothing of it can be seen before
	// Complete. ctx is that of this call only.
	Begin(ctx context.Context, key string) (Upload, error)

	// Unfinished yields the uploads below a prefix that are neither completed nor
	// aborted. It may yield nothing if the server drops them by itself after some days.
	Unfinished(ctx context.Context, prefix string) iter.Seq2[Unfinished, error]

	// Abort drops an unfinished upload, which then cannot be completed any more. One that
	// is not there is no error.
	Abort(ctx context.Context, u Unfinished) error
}

// Range selects keys for a list.
type Range struct {
	// Prefix is what the keys begin with. It is not empty.
	Prefix string
	// After may be a key. A Bucket may leave out all keys up to that one, and yields those
	// after it. If empty, all keys are yielded. It is a help: callers look at every key
	// themselves, and a Bucket whose server cannot begin in the middle may ignore it.
	After string
	// Delimiter, of one character, folds keys that have it after the prefix: those that
	// are the same up to their first delimiter are yielded as one, cut behind it. If empty,
	// nothing is folded. After, if it is set, ends with the delimiter then, and its group
	// may be yielded or not.
	Delimiter string
}

// Upload is an object while it is written in parts, by one goroutine.
type Upload interface {
	// Part writes the next part: PartSize bytes, or fewer if it is the last one, and at
	// least one. It does not keep data.
	Part(ctx context.Context, data []byte) error
	// Complete makes the parts an object, in the order in which they were written, if the
	// condition holds, and returns ErrChanged otherwise. Of several at once with IfAbsent,
	// or with one ETag, one succeeds. After an error it may be called again; the object
	// may be there nevertheless, if the answer was lost. Other uploads of the same key may
	// lose their parts by it; then their Complete returns ErrChanged.
	Complete(ctx context.Context, cond Condition) error
	// Abort drops the parts. After Complete has succeeded it does nothing. An upload that
	// is gone is no error.
	Abort(ctx context.Context) error
}

// Unfinished is an upload that somebody began.
type Unfinished struct {
	Key string
	// ID tells the uploads of one key apart. It means something to the Bucket alone.
	ID string
	// Begun is when it was begun, by the server's clock. If zero, that is not known.
	Begun time.Time
}
