package objectstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/internal/objectstore"
	"github.com/pullthrough/pullthrough/internal/objectstore/buckettest"
	"github.com/pullthrough/pullthrough/store"
)

const source = "https://a.example/team/app"

// replica returns a store of one of several replicas that share b.
func replica(t *testing.T, b objectstore.Bucket, name string) *objectstore.Store {
	t.Helper()
	s, err := objectstore.New(objectstore.Config{Bucket: b, Replica: name})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func blobInfo(data []byte) store.Info {
	i := store.Info{Source: source}
	i.Digest, i.Size, i.MediaType = digest.FromBytes(data), int64(len(data)), ocispec.MediaTypeImageLayerGzip
	return i
}

func manifestInfo(data []byte) store.Info {
	i := blobInfo(data)
	i.MediaType = ocispec.MediaTypeImageManifest
	return i
}

func write(ctx context.Context, s store.Store, repo string, i store.Info, data []byte) error {
	w, err := s.Create(ctx, repo, i)
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.Write(data); err != nil {
		return err
	}
	return w.Commit(ctx)
}

func put(t *testing.T, s store.Store, repo string, i store.Info, data []byte) {
	t.Helper()
	if err := write(t.Context(), s, repo, i, data); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, s store.Store, repo string, d digest.Digest) []byte {
	t.Helper()
	_, r, err := s.Open(t.Context(), repo, d)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// large returns more bytes than a part has.
func large(seed byte) []byte {
	p := bytes.Repeat([]byte{seed, 1, 2, 3, 4, 5, 6}, objectstore.PartSize/7+1000)
	return p[:objectstore.PartSize+100]
}

func tagAt(to string, at time.Duration) store.Tag {
	t := store.Tag{Source: source, Asked: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Add(at)}
	t.Digest, t.Size, t.MediaType = digest.FromString(to), 7, ocispec.MediaTypeImageIndex
	return t
}

func TestReplicasSeeOneAnother(t *testing.T) {
	b := new(buckettest.Mem)
	one, two := replica(t, b, "one"), replica(t, b, "two")
	data := large(1)
	put(t, one, "a", blobInfo(data), data)
	if !bytes.Equal(read(t, two, "a", digest.FromBytes(data)), data) {
		t.Error("the other replica reads other bytes")
	}
	if err := two.SetTag(t.Context(), "a", "v1", tagAt("1", 0)); err != nil {
		t.Fatal(err)
	}
	if got, err := one.Tag(t.Context(), "a", "v1"); err != nil || got.Digest != tagAt("1", 0).Digest {
		t.Errorf("the other replica sees the tag %+v, %v", got, err)
	}
	if !one.Shared() {
		t.Error("the store says that it is not shared")
	}
}

// Replicas that shared their records would take up one another's copies.
func TestRecordsBelongToAReplica(t *testing.T) {
	b := new(buckettest.Mem)
	one, two, again := replica(t, b, "one"), replica(t, b, "two"), replica(t, b, "one")
	ctx := t.Context()
	for _, s := range []*objectstore.Store{one, two} {
		if err := s.PutRecord(ctx, "jobs", "job", []byte(fmt.Sprintf("%p", s))); err != nil {
			t.Fatal(err)
		}
	}
	if err := two.PutRecord(ctx, "jobs", "of-two", nil); err != nil {
		t.Fatal(err)
	}
	if err := two.DeleteRecord(ctx, "jobs", "job"); err != nil {
		t.Fatal(err)
	}
	if got, err := again.Record(ctx, "jobs", "job"); err != nil || string(got) != fmt.Sprintf("%p", one) {
		t.Errorf("after a restart the record is %q, %v", got, err)
	}
	for key, err := range one.RecordKeys(ctx, "jobs") {
		if err != nil || key != "job" {
			t.Errorf("a replica has the record %s of another one, %v", key, err)
		}
	}
	nameless := replica(t, b, "")
	_, err := nameless.Record(ctx, "jobs", "job")
	for _, err := range []error{err, nameless.PutRecord(ctx, "jobs", "job", nil), nameless.DeleteRecord(ctx, "jobs", "job")} {
		if err == nil || errors.Is(err, store.ErrNotFound) {
			t.Errorf("records of a replica without a name: %v", err)
		}
	}
	for _, err := range nameless.RecordKeys(ctx, "jobs") {
		if err == nil {
			t.Error("a replica without a name has records")
		}
	}
}

// The other replica moves the tag after it was read and before it is written.
func TestTagMovedByAnotherReplicaMeanwhile(t *testing.T) {
	for _, older := range []bool{false, true} {
		b := new(buckettest.Mem)
		one, two := replica(t, b, "one"), replica(t, b, "two")
		ctx := t.Context()
		if older {
			if err := one.SetTag(ctx, "a", "v1", tagAt("0", 0)); err != nil {
				t.Fatal(err)
			}
		}
		b.Before = func(ctx context.Context, method, _ string) error {
			if method == "Put" {
				b.Before = nil
				return two.SetTag(ctx, "a", "v1", tagAt("2", 2))
			}
			return nil
		}
		if err := one.SetTag(ctx, "a", "v1", tagAt("1", 1)); !errors.Is(err, store.ErrStale) {
			t.Errorf("SetTag after a newer answer: %v", err)
		}
		if got, err := one.Tag(ctx, "a", "v1"); err != nil || got.Digest != tagAt("2", 0).Digest {
			t.Errorf("the tag has moved backwards: %+v, %v", got, err)
		}
	}
}

func TestReplicasMoveATagAtOnce(t *testing.T) {
	b := new(buckettest.Mem)
	var wg sync.WaitGroup
	for i := range 12 {
		s := replica(t, b, fmt.Sprint(i))
		wg.Go(func() {
			for j := range 5 {
				at := (7*i + 5*j) % 60
				if err := s.SetTag(t.Context(), "a", "v1", tagAt(fmt.Sprint(at), time.Duration(at))); err != nil && !errors.Is(err, store.ErrStale) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	newest := 0
	for i := range 12 {
		for j := range 5 {
			newest = max(newest, (7*i+5*j)%60)
		}
	}
	if got, err := replica(t, b, "x").Tag(t.Context(), "a", "v1"); err != nil || got.Digest != tagAt(fmt.Sprint(newest), 0).Digest {
		t.Errorf("the tag is %v of %v, %v, want the newest answer", got.Digest, got.Asked, err)
	}
}

func TestReplicasWriteOneBlobAtOnce(t *testing.T) {
	b := new(buckettest.Mem)
	data := large(3)
	var wg sync.WaitGroup
	for i := range 4 {
		s := replica(t, b, fmt.Sprint(i))
		wg.Go(func() {
			if err := write(t.Context(), s, "a", blobInfo(data), data); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if !bytes.Equal(read(t, replica(t, b, "x"), "a", digest.FromBytes(data)), data) {
		t.Error("the bytes are others")
	}
	for u, err := range b.Unfinished(t.Context(), "v1/") {
		t.Errorf("left is %+v, %v", u, err)
	}
}

// What another replica has brought is not sent again.
func TestBlobThatIsThereIsNotSentAgain(t *testing.T) {
	b := new(buckettest.Mem)
	data := large(4)
	put(t, replica(t, b, "one"), "a", blobInfo(data), data)
	var sent []string
	b.Before = func(_ context.Context, method, key string) error {
		if method == "Begin" || method == "Part" {
			sent = append(sent, method)
		}
		return nil
	}
	put(t, replica(t, b, "two"), "b", blobInfo(data), data)
	if len(sent) > 0 {
		t.Errorf("a blob that is there was sent again: %q", sent)
	}
}

func TestSmallBlobIsThreeRequests(t *testing.T) {
	b := new(buckettest.Mem)
	var mu sync.Mutex
	var requests []string
	b.Before = func(_ context.Context, method, key string) error {
		mu.Lock()
		defer mu.Unlock()
		requests = append(requests, method+" "+strings.SplitN(key, "/", 3)[1])
		return nil
	}
	data := bytes.Repeat([]byte("x"), objectstore.PartSize)
	put(t, replica(t, b, ""), "a", blobInfo(data), data)
	slices.Sort(requests)
	if want := []string{"Put blobs", "Put layers", "Put origins"}; !slices.Equal(requests, want) {
		t.Errorf("requests: %q, want %q", requests, want)
	}
}
