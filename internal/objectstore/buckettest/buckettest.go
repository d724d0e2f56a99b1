// Package buckettest checks implementations of [objectstore.Bucket].
//
// Each check is a law in words, and a function that returns an error if the bucket breaks
// it.
package buckettest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/internal/objectstore"
)

// A Check is one law that every bucket obeys.
type Check struct {
	Name string
	// Law is the law in a sentence.
	Law string
	// Func returns nil if the bucket obeys the law, an error that says how it breaks the
	// law, or one that wraps [errors.ErrUnsupported] if the server does by itself what the
	// law is about. The bucket must be empty and used by nothing else.
	Func func(ctx context.Context, b objectstore.Bucket) error
}

// Checks returns all checks.
func Checks() []Check { return slices.Concat(objectChecks(), listChecks(), uploadChecks()) }

// Run runs every check, each as a subtest with an empty bucket from open. Those whose names
// are in skip are for servers that are known to break the law.
func Run(t *testing.T, open func(t *testing.T) objectstore.Bucket, skip ...string) {
	for _, name := range skip {
		if !slices.ContainsFunc(Checks(), func(c Check) bool { return c.Name == name }) {
			t.Errorf("there is no check %q to skip", name)
		}
	}
	for _, c := range Checks() {
		t.Run(c.Name, func(t *testing.T) {
			if slices.Contains(skip, c.Name) {
				t.Skip("the server is known to break this law: ", c.Law)
			}
			err := c.Func(t.Context(), open(t))
			if errors.Is(err, errors.ErrUnsupported) {
				t.Skip(err)
			}
			if err != nil {
				t.Errorf("%v\nThe law: %s", err, c.Law)
			}
		})
	}
}

// kit is a bucket under check. Its methods panic with a failure if the bucket breaks a law,
// which keeps the checks short.
type kit struct {
	ctx context.Context
	b   objectstore.Bucket
}

type failure struct{ error }

// law turns a function that panics with failures into the Func of a check.
func law(f func(k *kit)) func(context.Context, objectstore.Bucket) error {
	return func(ctx context.Context, b objectstore.Bucket) (err error) {
		defer func() {
			switch r := recover().(type) {
			case nil:
			case failure:
				err = r.error
			default:
				panic(r)
			}
		}()
		ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
		defer cancel()
		f(&kit{ctx, b})
		return nil
	}
}

func failf(format string, args ...any) { panic(failure{fmt.Errorf(format, args...)}) }

// ok fails on an error.
func ok(err error, format string, args ...any) {
	if err != nil {
		failf("%s: %w", fmt.Sprintf(format, args...), err)
	}
}

// is fails unless err is want.
func is(err, want error, format string, args ...any) {
	if !errors.Is(err, want) {
		failf("%s: got error %v, want %v", fmt.Sprintf(format, args...), err, want)
	}
}

// together runs f n times concurrently, and fails with the first failure.
func (k *kit) together(n int, f func(i int)) {
	errs := make(chan error, n)
	for i := range n {
		go func() { errs <- law(func(*kit) { f(i) })(k.ctx, k.b) }()
	}
	var first error
	for range n {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	if first != nil {
		panic(failure{first})
	}
}

func (k *kit) put(key, data string) {
	ok(k.b.Put(k.ctx, key, []byte(data), objectstore.Always), "Put of %s", key)
}

// etag returns the ETag of an object.
func (k *kit) etag(key string) objectstore.Condition {
	o, err := k.b.Head(k.ctx, key)
	ok(err, "Head of %s", key)
	return objectstore.IfMatch(o.ETag)
}

// get returns the bytes of an object and its version.
func (k *kit) get(key string) (objectstore.Object, string) {
	o, body, err := k.b.Get(k.ctx, key, 0)
	ok(err, "Get of %s", key)
	defer body.Close()
	p, err := io.ReadAll(body)
	ok(err, "reading %s", key)
	return o, string(p)
}

// has fails unless the object has these bytes, and Head and Get agree about it.
func (k *kit) has(key, want, when string) {
	o, got := k.get(key)
	if got != want {
		failf("%s: %s has %s, want %s", when, key, short(got), short(want))
	}
	head, err := k.b.Head(k.ctx, key)
	ok(err, "Head of %s", key)
	if head != o || o.Size != int64(len(want)) || o.ETag == "" {
		failf("%s: of the %d bytes of %s Head says %+v, and Get %+v", when, len(want), key, head, o)
	}
}

// lacks fails if there is an object.
func (k *kit) lacks(key, when string) {
	_, err := k.b.Head(k.ctx, key)
	notFound(err, "%s: Head of %s", when, key)
	_, body, err := k.b.Get(k.ctx, key, 0)
	if err == nil {
		body.Close()
	}
	notFound(err, "%s: Get of %s", when, key)
}

func (k *kit) list(r objectstore.Range) []string {
	var keys []string
	for key, err := range k.b.List(k.ctx, r) {
		ok(err, "List of %+v", r)
		keys = append(keys, key)
	}
	return keys
}

// below returns the keys below a prefix.
func (k *kit) below(prefix string) []string { return k.list(objectstore.Range{Prefix: prefix}) }

func (k *kit) wantList(r objectstore.Range, want ...string) {
	if got := k.list(r); !slices.Equal(got, want) {
		failf("List of %+v: got %q, want %q", r, got, want)
	}
}

// short returns text for a message.
func short(s string) string {
	if len(s) <= 60 {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprintf("%d bytes, %q...", len(s), s[:40])
}

// random returns bytes that are the same for the same seed.
func random(seed, n int) string {
	p := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed)}).Read(p)
	return string(p)
}
