package servertest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/store/s3"
)

const source = "https://a.example/team/app"

func blobInfo(data []byte) store.Info {
	i := store.Info{Source: source}
	i.Digest, i.Size, i.MediaType = digest.FromBytes(data), int64(len(data)), ocispec.MediaTypeImageLayerGzip
	return i
}

// large returns more bytes than a part has.
func large(seed byte) []byte { return bytes.Repeat([]byte{seed, 1, 2, 3, 4, 5, 6}, 1300000) }

func tagAt(to string, at time.Duration) store.Tag {
	t := store.Tag{Source: source, Asked: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Add(at)}
	t.Digest, t.Size, t.MediaType = digest.FromString(to), 7, ocispec.MediaTypeImageIndex
	return t
}

func write(ctx context.Context, s store.Store, data []byte) error {
	w, err := s.Create(ctx, "a", blobInfo(data))
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	if err == nil {
		err = w.Commit(ctx)
	}
	return errors.Join(err, w.Close())
}

func read(ctx context.Context, s store.Store, d digest.Digest) ([]byte, error) {
	_, r, err := s.Open(ctx, "a", d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// story writes and reads a small blob, a large one and a tag.
func story(t *testing.T, s store.Store, what string) {
	t.Helper()
	for _, data := range [][]byte{[]byte("small"), large(1)} {
		if err := write(t.Context(), s, data); err != nil {
			t.Errorf("%s: %d bytes: %v", what, len(data), err)
			continue
		}
		got, err := read(t.Context(), s, digest.FromBytes(data))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: of %d bytes were read %d, or others, %v", what, len(data), len(got), err)
		}
	}
	for i, to := range []string{"1", "2"} {
		if err := s.SetTag(t.Context(), "a", "v1", tagAt(to, time.Duration(i))); err != nil {
			t.Errorf("%s: SetTag: %v", what, err)
		}
	}
	if got, err := s.Tag(t.Context(), "a", "v1"); err != nil || got.Digest != digest.FromString("2") {
		t.Errorf("%s: the tag is %v, %v", what, got.Digest, err)
	}
}

// noUploads fails if an upload is unfinished.
func noUploads(t *testing.T, s server, what string) {
	t.Helper()
	for u, err := range s.open(t).Unfinished(t.Context(), "some/") {
		t.Errorf("%s: left is %+v, %v", what, u, err)
	}
}

func TestServerIsBusyNowAndThen(t *testing.T) {
	s := fake(t)
	f := newFront(t, s.endpoint)
	busy := first(1)
	f.set(func(w http.ResponseWriter, r *http.Request) bool {
		if !busy(r.Method + r.URL.Path + r.URL.Query().Get("partNumber")) {
			return false
		}
		refuse(w, http.StatusServiceUnavailable, "SlowDown")
		return true
	}, nil)
	story(t, s.store(t, f.url, "r"), "503 at first")
	noUploads(t, s, "503 at first")
}

func TestBodiesAreCut(t *testing.T) {
	s := fake(t)
	f := newFront(t, s.endpoint)
	cut := first(2)
	f.set(nil, func(r *http.Response) error {
		if r.Request.Method == http.MethodGet && r.StatusCode < 300 && cut(r.Request.URL.Path) {
			r.Body = io.NopCloser(io.LimitReader(r.Body, r.ContentLength/2))
		}
		return nil
	})
	story(t, s.store(t, f.url, "r"), "bodies that are cut")
	if n := f.count("GET", "/blobs/"); n != 6 {
		t.Errorf("%d requests for the bytes of two blobs, want 6", n)
	}
}

// The client repeats a write whose answer it has not heard, and then hears of its own.
func TestAnswersToWritesAreLost(t *testing.T) {
	for _, s := range servers(t) {
		f := newFront(t, s.endpoint)
		lost := first(1)
		f.set(nil, func(r *http.Response) error {
			q := r.Request.URL.Query()
			if m := r.Request.Method; (m == http.MethodPut && !q.Has("partNumber") || isComplete(r.Request)) && r.StatusCode < 300 && lost(m+r.Request.URL.Path) {
				return errors.New("lost")
			}
			return nil
		})
		story(t, s.store(t, f.url, "r"), s.name)
		noUploads(t, s, s.name)
	}
}

// AWS answers 409 if another write of the key is under way.
func TestConflicts(t *testing.T) {
	for _, s := range servers(t) {
		f := newFront(t, s.endpoint)
		conflict := first(1)
		f.set(func(w http.ResponseWriter, r *http.Request) bool {
			conditional := r.Header.Get("If-None-Match")+r.Header.Get("If-Match") != ""
			if !conditional || !conflict(r.Method+r.URL.Path) {
				return false
			}
			_, _ = io.Copy(io.Discard, r.Body)
			refuse(w, http.StatusConflict, "ConditionalRequestConflict")
			return true
		}, nil)
		story(t, s.store(t, f.url, "r"), s.name)
		noUploads(t, s, s.name)
		if f.count("POST", "uploadId") != 2 {
			t.Errorf("%s: %d Completes, want 2", s.name, f.count("POST", "uploadId"))
		}
	}
}

// Complete is conditional, so that nobody overwrites what others read.
func TestEveryWriteOfContentIsConditional(t *testing.T) {
	s := fake(t)
	f := newFront(t, s.endpoint)
	f.set(func(_ http.ResponseWriter, r *http.Request) bool {
		content := strings.Contains(r.URL.Path, "/blobs/") || strings.Contains(r.URL.Path, "/origins/")
		whole := r.Method == http.MethodPut && !r.URL.Query().Has("partNumber") || isComplete(r)
		if content && whole && r.Header.Get("If-None-Match") != "*" {
			t.Errorf("%s %s has no condition", r.Method, r.URL.Path)
		}
		if strings.Contains(r.URL.Path, "/tags/") && r.Method == http.MethodPut && r.Header.Get("If-None-Match") == "" && r.Header.Get("If-Match") == "" {
			t.Errorf("the tag is written without a condition")
		}
		if r.Method == http.MethodPut && (r.Header.Get("Content-Md5") == "" || r.Header.Get("X-Amz-Trailer") != "" || r.Header.Get("Authorization") == "") {
			t.Errorf("%s %s has the header %v", r.Method, r.URL.Path, r.Header)
		}
		for name := range r.Header {
			if strings.HasPrefix(name, "X-Amz-Checksum") || strings.HasPrefix(name, "X-Amz-Sdk-Checksum") {
				t.Errorf("%s %s has the header %s, which other servers do not know", r.Method, r.URL.Path, name)
			}
		}
		return false
	}, nil)
	story(t, s.store(t, f.url, "r"), "conditions")
}

// Answers that make no sense are errors, and no reason to write without a condition.
func TestNonsense(t *testing.T) {
	s := fake(t)
	f := newFront(t, s.endpoint)
	st := s.store(t, f.url, "r")
	story(t, st, "before")
	f.set(nil, func(r *http.Response) error {
		r.Header.Del("ETag")
		return nil
	})
	if err := st.SetTag(t.Context(), "a", "v1", tagAt("3", 3)); err == nil {
		t.Error("a tag is moved without an ETag")
	}
	f.set(nil, func(r *http.Response) error {
		if r.Request.Header.Get("Range") != "" {
			r.StatusCode = http.StatusOK
			r.Header.Del("Content-Range")
		}
		return nil
	})
	_, r, err := st.Open(t.Context(), "a", digest.FromBytes(large(1)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	_, _ = r.Seek(-10, io.SeekEnd)
	if got, err := io.ReadAll(r); err == nil {
		t.Errorf("a server that ignores ranges yields %q", got)
	}
	f.set(func(w http.ResponseWriter, r *http.Request) bool {
		if isComplete(r) {
			refuse(w, http.StatusOK, "InternalError")
		}
		return isComplete(r)
	}, nil)
	if err := write(t.Context(), st, large(2)); err == nil {
		t.Error("an error with the status 200 is taken for success")
	}
}

func TestRefusalsAndTheirMeaning(t *testing.T) {
	s := fake(t)
	f := newFront(t, s.endpoint)
	st := s.store(t, f.url, "r")
	story(t, st, "before")
	d := digest.FromString("small")
	for _, c := range []struct {
		status int
		code   string
		full   bool
	}{
		{403, "AccessDenied", false}, {404, "NoSuchBucket", false}, {400, "InvalidRequest", false}, {403, "QuotaExceeded", true},
		{400, "XMinioStorageFull", true}, {507, "InsufficientStorage", true}, {403, "SignatureDoesNotMatch", false},
	} {
		f.set(func(w http.ResponseWriter, r *http.Request) bool {
			_, _ = io.Copy(io.Discard, r.Body)
			refuse(w, c.status, c.code)
			return true
		}, nil)
		ctx := t.Context()
		_, stat := st.Stat(ctx, "a", d)
		_, open := read(ctx, st, d)
		_, tag := st.Tag(ctx, "a", "v1")
		for name, err := range map[string]error{
			"Stat": stat, "Open": open, "Tag": tag, "SetTag": st.SetTag(ctx, "a", "v1", tagAt("9", 9)), "Write": write(ctx, st, large(9)),
			"small": write(ctx, st, []byte("9")), "Delete": st.Delete(ctx, "a", d), "Check": st.Check(ctx),
		} {
			if err == nil || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrStale) {
				t.Errorf("%d %s: %s returns %v", c.status, c.code, name, err)
				continue
			}
			if errors.Is(err, store.ErrFull) != c.full && (name == "small" || name == "SetTag") {
				t.Errorf("%d %s: %s returns %v; that the store is full must be %v", c.status, c.code, name, err, c.full)
			}
			text := err.Error()
			if !strings.Contains(text, "s3://"+s.bucket+"/some/prefix/v1/") || strings.Contains(text, access) || strings.Contains(text, secret) {
				t.Errorf("%s: the error does not name the object, or shows a credential: %s", name, text)
			}
		}
	}
}

func TestServerThatNeverAnswers(t *testing.T) {
	s := fake(t)
	f := newFront(t, s.endpoint)
	st := s.store(t, f.url, "r")
	f.set(func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true }, nil)
	for name, call := range map[string]func(context.Context) error{
		"Stat":   func(ctx context.Context) error { _, err := st.Stat(ctx, "a", digest.FromString("x")); return err },
		"Open":   func(ctx context.Context) error { _, err := read(ctx, st, digest.FromString("x")); return err },
		"SetTag": func(ctx context.Context) error { return st.SetTag(ctx, "a", "v1", tagAt("1", 1)) },
		"List": func(ctx context.Context) error {
			for _, err := range st.Manifests(ctx, "a") {
				return err
			}
			return nil
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
}

func TestCheck(t *testing.T) {
	for _, s := range servers(t) {
		st := s.store(t, s.endpoint, "r")
		if err := st.Check(t.Context()); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
		for key, err := range s.open(t).List(t.Context(), rangeOf("some/")) {
			t.Errorf("%s: Check leaves %s, %v", s.name, key, err)
		}
		noUploads(t, s, s.name)
		f := newFront(t, s.endpoint)
		f.set(func(_ http.ResponseWriter, r *http.Request) bool {
			r.Header.Del("If-None-Match")
			return false
		}, nil)
		if err := s.store(t, f.url, "r").Check(t.Context()); !errors.Is(err, s3.ErrUnconditional) && s.name == "gofakes3" { // a signature covers it elsewhere
			t.Errorf("%s: a server that ignores conditions: %v", s.name, err)
		}
		s.bucket = "no-such-bucket"
		if err := s.store(t, s.endpoint, "r").Check(t.Context()); err == nil || errors.Is(err, s3.ErrUnconditional) {
			t.Errorf("%s: a bucket that is not there: %v", s.name, err)
		}
	}
}
