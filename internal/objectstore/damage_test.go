package objectstore_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/objectstore"
	"github.com/pullthrough/pullthrough/internal/objectstore/buckettest"
	"github.com/pullthrough/pullthrough/store"
)

// keyWith returns the one key that has a part.
func keyWith(t *testing.T, b *buckettest.Mem, part string) string {
	t.Helper()
	for _, key := range b.Keys() {
		if strings.Contains(key, part) {
			return key
		}
	}
	t.Fatalf("no key of %q has %s", b.Keys(), part)
	return ""
}

func overwrite(t *testing.T, b *buckettest.Mem, key, data string) {
	t.Helper()
	if err := b.Put(t.Context(), key, []byte(data), objectstore.Always); err != nil {
		t.Fatal(err)
	}
}

func absent(t *testing.T, s store.Store, d digest.Digest, when string) {
	t.Helper()
	if _, err := s.Stat(t.Context(), "a", d); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("%s: Stat returns %v", when, err)
	}
	_, r, err := s.Open(t.Context(), "a", d)
	if err == nil {
		r.Close()
	}
	if !errors.Is(err, store.ErrNotFound) {
		t.Errorf("%s: Open returns %v", when, err)
	}
}

// A link without its bytes must be known before a header goes out.
func TestLinkWithoutItsBytes(t *testing.T) {
	for _, data := range [][]byte{[]byte("small"), large(1)} {
		b := new(buckettest.Mem)
		s := replica(t, b, "")
		i := blobInfo(data)
		put(t, s, "a", i, data)
		if err := b.Delete(t.Context(), keyWith(t, b, "/blobs/")); err != nil {
			t.Fatal(err)
		}
		absent(t, s, i.Digest, "bytes that are lost")
		err := s.Adopt(t.Context(), "b", i, nil)
		if !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Adopt of bytes that are lost: %v", err)
		}
		put(t, s, "a", i, data)
		if !bytes.Equal(read(t, s, "a", i.Digest), data) {
			t.Error("the bytes that were written again are others")
		}
	}
}

// Bytes that are not those of the digest do not stay for ever.
func TestDamagedBytesAreReplaced(t *testing.T) {
	for _, damage := range []string{"SMALL", "longer than it was", ""} {
		b := new(buckettest.Mem)
		s := replica(t, b, "")
		i := blobInfo([]byte("small"))
		put(t, s, "a", i, []byte("small"))
		overwrite(t, b, keyWith(t, b, "/blobs/"), damage)
		if damage != "SMALL" {
			absent(t, s, i.Digest, "bytes that are not as many")
		}
		put(t, s, "a", i, []byte("small"))
		if got := read(t, s, "a", i.Digest); string(got) != "small" {
			t.Errorf("after %q was there and the bytes were written again: %q", damage, got)
		}
	}
	for _, known := range []bool{true, false} {
		b := new(buckettest.Mem)
		s := replica(t, b, "")
		data := large(2)
		i := blobInfo(data)
		put(t, s, "a", i, data)
		overwrite(t, b, keyWith(t, b, "/blobs/"), "cut")
		absent(t, s, i.Digest, "large content that was cut")
		if !known {
			i.Size = -1
		}
		put(t, s, "a", i, data)
		if !bytes.Equal(read(t, s, "a", i.Digest), data) {
			t.Error("large content that was written again has other bytes")
		}
	}
}

func TestDamagedLinksAndTagsAreMissing(t *testing.T) {
	b := new(buckettest.Mem)
	s := replica(t, b, "")
	blob, man := blobInfo([]byte("blob")), manifestInfo([]byte("manifest"))
	man.Subject = digest.FromString("subject")
	put(t, s, "a", blob, []byte("blob"))
	put(t, s, "a", man, []byte("manifest"))
	if err := s.SetTag(t.Context(), "a", "v1", tagAt("1", 1)); err != nil {
		t.Fatal(err)
	}
	good := map[string]string{}
	for _, part := range []string{"/layers/", "/manifests/", "/tags/"} {
		key := keyWith(t, b, part)
		_, body, err := b.Get(t.Context(), key, 0)
		if err != nil {
			t.Fatal(err)
		}
		var buf bytes.Buffer
		_, _ = buf.ReadFrom(body)
		good[part] = buf.String()
	}
	for _, bad := range []string{"", "{", "null", "[]", `{"size":-1}`, good["/layers/"][:40],
		strings.Replace(good["/manifests/"], "application/vnd.oci.image.manifest.v1+json", "text/plain", 1),
		strings.Replace(good["/layers/"], "sha256:", "sha512:", 1),
		strings.ReplaceAll(good["/tags/"], "sha256:", "sha256:../"),
	} {
		for part := range good {
			if part != "/tags/" || !strings.Contains(bad, "text/plain") { // which would be a tag
				overwrite(t, b, keyWith(t, b, part), bad)
			}
		}
		absent(t, s, blob.Digest, bad)
		absent(t, s, man.Digest, bad)
		if _, err := s.Tag(t.Context(), "a", "v1"); !errors.Is(err, store.ErrNotFound) && !strings.Contains(bad, "text/plain") {
			t.Errorf("a tag that is %q: %v", bad, err)
		}
		for i, err := range s.Manifests(t.Context(), "a") {
			t.Errorf("%q: listed is %+v, %v", bad, i, err)
		}
		for i, err := range s.Blobs(t.Context(), "a") {
			t.Errorf("%q: listed is %+v, %v", bad, i, err)
		}
		for d, err := range s.Referrers(t.Context(), "a", man.Subject) {
			t.Errorf("%q: a referrer is %+v, %v", bad, d, err)
		}
		put(t, s, "a", blob, []byte("blob"))
		put(t, s, "a", man, []byte("manifest"))
		if err := s.SetTag(t.Context(), "a", "v1", tagAt("1", 1)); err != nil {
			t.Errorf("SetTag where %q was: %v", bad, err)
		}
		if _, err := s.Tag(t.Context(), "a", "v1"); err != nil {
			t.Error(err)
		}
		if got := string(read(t, s, "a", man.Digest)); got != "manifest" {
			t.Errorf("the manifest that was written again is %q", got)
		}
	}
}

func TestWrongDigestIsNotStored(t *testing.T) {
	for _, data := range [][]byte{[]byte("small"), large(5)} {
		b := new(buckettest.Mem)
		s := replica(t, b, "")
		i := blobInfo(data)
		data[len(data)-1]++
		if err := write(t.Context(), s, "a", i, data); err == nil || errors.Is(err, store.ErrSize) {
			t.Errorf("bytes of another digest: %v", err)
		}
		if keys := b.Keys(); len(keys) > 0 {
			t.Errorf("left is %q", keys)
		}
		for u, err := range b.Unfinished(t.Context(), "v1/") {
			t.Errorf("left is %+v, %v", u, err)
		}
	}
}

// Some file systems show their temporary files in lists.
func TestForeignKeysAreNotListed(t *testing.T) {
	b := new(buckettest.Mem)
	s := replica(t, b, "r")
	put(t, s, "a", manifestInfo([]byte("m")), []byte("m"))
	for _, key := range []string{"v1/images/a!/tags/.v1.tmp", "v1/images/a!/tags/a/b", "v1/images/a!/manifests/.x", "v1/images/.a!/tags/v1",
		"v1/images/A!/tags/v1", "v1/layers/a!/sha256-", "v1/records/r/jobs/.job.tmp", "v1/images/stray"} {
		overwrite(t, b, key, "x")
	}
	ctx := t.Context()
	for name, err := range s.Repositories(ctx, "") {
		if name != "a" || err != nil {
			t.Errorf("listed is the repository %q, %v", name, err)
		}
	}
	for name, err := range s.TagNames(ctx, "a", "") {
		t.Errorf("listed is the tag %q, %v", name, err)
	}
	for i, err := range s.Blobs(ctx, "a") {
		t.Errorf("listed is %+v, %v", i, err)
	}
	for key, err := range s.RecordKeys(ctx, "jobs") {
		t.Errorf("listed is the record %q, %v", key, err)
	}
}

var errAway = errors.New("the server is away")

// Trouble is not taken for what is not there, and everything ends.
func TestServerIsAway(t *testing.T) {
	b := new(buckettest.Mem)
	s := replica(t, b, "r")
	i := blobInfo([]byte("x"))
	put(t, s, "a", i, []byte("x"))
	b.Before = func(context.Context, string, string) error { return errAway }
	ctx := t.Context()
	_, err := s.Stat(ctx, "a", i.Digest)
	_, _, err2 := s.Open(ctx, "a", i.Digest)
	_, err3 := s.Tag(ctx, "a", "v1")
	_, err4 := s.Record(ctx, "jobs", "job")
	errs := []error{err, err2, err3, err4, s.SetTag(ctx, "a", "v1", tagAt("1", 0)), s.Delete(ctx, "a", i.Digest), s.DeleteTag(ctx, "a", "v1"),
		s.Adopt(ctx, "b", i, nil), write(ctx, s, "a", i, []byte("x")), s.PutRecord(ctx, "jobs", "job", nil), s.DeleteRecord(ctx, "jobs", "job"), s.Check(ctx)}
	_, err = s.Sweep(ctx, 0)
	errs = append(errs, err)
	for _, err := range s.Repositories(ctx, "") {
		errs = append(errs, err)
	}
	for _, err := range s.Blobs(ctx, "a") {
		errs = append(errs, err)
	}
	for _, err := range s.Referrers(ctx, "a", i.Digest) {
		errs = append(errs, err)
	}
	for n, err := range errs {
		if !errors.Is(err, errAway) || errors.Is(err, store.ErrNotFound) {
			t.Errorf("error %d is %v", n, err)
		}
	}
	if len(errs) != 16 {
		t.Errorf("%d errors, want 16", len(errs))
	}
}
