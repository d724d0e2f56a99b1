package objectstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/objectstore"
	"github.com/pullthrough/pullthrough/internal/objectstore/buckettest"
	"github.com/pullthrough/pullthrough/store"
)

// lossy is a bucket whose answers to writes are lost or repeated.
type lossy struct {
	*buckettest.Mem
	after func(method string, err error) error
}

func (l *lossy) Put(ctx context.Context, key string, data []byte, cond objectstore.Condition) error {
	return l.after("Put", l.Mem.Put(ctx, key, data, cond))
}

func (l *lossy) Begin(ctx context.Context, key string) (objectstore.Upload, error) {
	u, err := l.Mem.Begin(ctx, key)
	return &lossyUpload{u, l}, err
}

type lossyUpload struct {
	objectstore.Upload
	l *lossy
}

func (u *lossyUpload) Complete(ctx context.Context, cond objectstore.Condition) error {
	return u.l.after("Complete", u.Upload.Complete(ctx, cond))
}

// Clients repeat a request whose answer was lost, and then hear that the object has changed:
// by themselves.
func TestAnswersAreLost(t *testing.T) {
	b := &lossy{Mem: new(buckettest.Mem)}
	b.after = func(_ string, err error) error {
		if err == nil {
			err = objectstore.ErrChanged
		}
		return err
	}
	s := replica(t, b, "")
	for _, data := range [][]byte{[]byte("small"), large(1)} {
		w, err := s.Create(t.Context(), "a", blobInfo(data))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(data)
		err = w.Commit(t.Context()) // its link is written without a condition
		if err != nil && !errors.Is(err, objectstore.ErrChanged) {
			t.Error(err)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := s.SetTag(t.Context(), "a", "v1", tagAt("1", 1)); err != nil {
		t.Errorf("SetTag: %v", err)
	}
	b.after = func(_ string, err error) error { return err }
	for _, data := range [][]byte{[]byte("small"), large(1)} {
		if !bytes.Equal(read(t, s, "a", digest.FromBytes(data)), data) {
			t.Error("the bytes are others")
		}
	}
	if got, err := s.Tag(t.Context(), "a", "v1"); err != nil || got.Digest != tagAt("1", 1).Digest {
		t.Errorf("the tag is %+v, %v", got, err)
	}
}

// 409 says that another write is under way, which need not succeed.
func TestConflictWithAWriteThatFails(t *testing.T) {
	for _, data := range [][]byte{[]byte("small"), large(1)} {
		for _, conflicts := range []int{1, 3, 1000} {
			synctest.Test(t, func(t *testing.T) {
				b := new(buckettest.Mem)
				n := 0
				b.Before = func(_ context.Context, method, key string) error {
					if (method == "Complete" || method == "Put") && strings.Contains(key, "/blobs/") {
						if n++; n <= conflicts {
							return objectstore.ErrChanged
						}
					}
					return nil
				}
				s := replica(t, b, "")
				err := write(t.Context(), s, "a", blobInfo(data), data)
				if few := conflicts < 10; few != (err == nil) {
					t.Errorf("after %d conflicts: %v", conflicts, err)
				}
				if err != nil {
					absent(t, s, digest.FromBytes(data), "not written")
				}
				for u, err := range b.Unfinished(t.Context(), "v1/") {
					t.Errorf("left is %+v, %v", u, err)
				}
			})
		}
	}
}

// A crash between any two requests leaves nothing that can be seen, or all of it.
func TestCrashBetweenAnyTwoRequests(t *testing.T) {
	man := manifestInfo([]byte("manifest"))
	man.Subject = digest.FromString("subject")
	for _, content := range []struct {
		info store.Info
		data []byte
	}{{man, []byte("manifest")}, {blobInfo(large(1)), large(1)}} {
		for n := 1; ; n++ {
			b := new(buckettest.Mem)
			var requests atomic.Int64
			b.Before = func(context.Context, string, string) error {
				if requests.Add(1) > int64(n) {
					return errAway
				}
				return nil
			}
			err := writeAlone(t.Context(), replica(t, b, ""), content.info, content.data)
			b.Before = nil
			s := replica(t, b, "")
			if err == nil {
				if !bytes.Equal(read(t, s, "a", content.info.Digest), content.data) {
					t.Error("other bytes")
				}
				break
			}
			absent(t, s, content.info.Digest, fmt.Sprintf("after %d requests", n))
			put(t, s, "a", content.info, content.data)
			listed := 0
			for range s.Manifests(t.Context(), "a") {
				listed++
			}
			for range s.Referrers(t.Context(), "a", man.Subject) {
				listed++
			}
			if content.info.IsManifest() && listed != 2 {
				t.Errorf("after a crash at request %d and a second try the lists have %d, want 2", n, listed)
			}
		}
	}
}

// writeAlone writes without Close, as a process that dies.
func writeAlone(ctx context.Context, s store.Store, i store.Info, data []byte) error {
	w, err := s.Create(ctx, "a", i)
	if err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		return err
	}
	return w.Commit(ctx)
}

func TestUploadsOfTheDeadAreSwept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := new(buckettest.Mem)
		s := replica(t, b, "")
		data := large(1)
		if w, err := s.Create(t.Context(), "a", blobInfo(data)); err != nil {
			t.Fatal(err)
		} else if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
		time.Sleep(23 * time.Hour)
		w, err := s.Create(t.Context(), "a", blobInfo(data))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
		time.Sleep(90 * time.Minute)
		for _, step := range []struct {
			age  time.Duration
			want int
		}{{48 * time.Hour, 0}, {0, 1}, {0, 0}, {time.Minute, 0}} {
			if n, err := s.Sweep(t.Context(), step.age); n != step.want || err != nil {
				t.Errorf("Sweep of what is older than %v: %d, %v, want %d", step.age, n, err, step.want)
			}
		}
		if err := w.Commit(t.Context()); err != nil {
			t.Errorf("an upload that was younger: %v", err)
		}
		if !bytes.Equal(read(t, s, "a", digest.FromBytes(data)), data) {
			t.Error("other bytes")
		}
	})
}

// The writer must not hold a large blob in memory, nor keep what the caller uses again.
func TestWriterKeepsNoBytesOfItsCaller(t *testing.T) {
	s := replica(t, new(buckettest.Mem), "")
	data := large(1)
	w, err := s.Create(t.Context(), "a", blobInfo(data))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	p := make([]byte, 12345)
	for r := bytes.NewReader(data); ; {
		n, err := r.Read(p)
		if err == io.EOF {
			break
		}
		if _, err := w.Write(p[:n]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read(t, s, "a", digest.FromBytes(data)), data) {
		t.Error("other bytes")
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("more than was announced is taken")
	}
}

// ignoring ignores one kind of condition.
type ignoring struct {
	*buckettest.Mem
	cond func(objectstore.Condition) bool
}

func (i ignoring) Put(ctx context.Context, key string, data []byte, cond objectstore.Condition) error {
	if i.cond(cond) {
		cond = objectstore.Always
	}
	return i.Mem.Put(ctx, key, data, cond)
}

func TestCheckFindsServersThatIgnoreConditions(t *testing.T) {
	b := new(buckettest.Mem)
	if err := replica(t, b, "").Check(t.Context()); err != nil {
		t.Errorf("a good server: %v", err)
	}
	for name, cond := range map[string]func(objectstore.Condition) bool{
		"If-None-Match": func(c objectstore.Condition) bool { return c == objectstore.IfAbsent },
		"If-Match":      func(c objectstore.Condition) bool { return c != objectstore.IfAbsent },
		"both":          func(objectstore.Condition) bool { return true },
	} {
		if err := replica(t, ignoring{b, cond}, "").Check(t.Context()); !errors.Is(err, objectstore.ErrUnconditional) {
			t.Errorf("a server that ignores %s: %v", name, err)
		}
	}
	for _, method := range []string{"List", "Head", "Put", "Get", "Begin", "Part", "Abort", "Unfinished", "Delete"} {
		b.Before = func(_ context.Context, m, _ string) error {
			if m == method {
				return errAway
			}
			return nil
		}
		if err := replica(t, b, "").Check(t.Context()); !errors.Is(err, errAway) {
			t.Errorf("a server that does not allow %s: %v", method, err)
		}
		b.Before = nil
		for _, key := range b.Keys() {
			if err := b.Delete(t.Context(), key); err != nil || method != "Delete" {
				t.Errorf("without %s, Check leaves %s", method, key)
			}
		}
	}
	if keys := b.Keys(); len(keys) > 0 {
		t.Errorf("Check leaves %q", keys)
	}
}

func TestConfigIsChecked(t *testing.T) {
	b := new(buckettest.Mem)
	for _, c := range []objectstore.Config{
		{Prefix: "/a"}, {Prefix: "a//b"}, {Prefix: "a/../b"}, {Prefix: ".a"}, {Prefix: "a b"}, {Prefix: "a!"}, {Prefix: "//"}, {Prefix: strings.Repeat("a", 129)},
		{Replica: "a/b"}, {Replica: ".a"}, {Replica: "a b"}, {Replica: strings.Repeat("a", 129)},
	} {
		c.Bucket = b
		if _, err := objectstore.New(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
	var log bytes.Buffer
	s, err := objectstore.New(objectstore.Config{Bucket: b, Prefix: "a/b/", Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.String(); got != "mem://bucket/a/b/v1/" {
		t.Errorf("the store is %s", got)
	}
	put(t, s, "a", blobInfo([]byte("x")), []byte("x"))
	overwrite(t, b, keyWith(t, b, "/layers/"), "?")
	absent(t, s, digest.FromString("x"), "damaged")
	if !strings.Contains(log.String(), "a/b/v1/layers/a!/sha256-") {
		t.Errorf("the log has %q", log.String())
	}
	long := strings.Repeat(strings.Repeat("a", 200)+"/", 5) + "a"
	if err := write(t.Context(), s, long, blobInfo([]byte("x")), []byte("x")); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("a name that is too long for a key: %v", err)
	}
	if _, err := s.Stat(t.Context(), long, digest.FromString("x")); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("Stat of a name that is too long for a key: %v", err)
	}
}
