package azblob

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pullthrough/pullthrough/internal/objectstore"
	"github.com/pullthrough/pullthrough/store"
)

// cut ends the connection without a response.
func cut(http.ResponseWriter) { panic(http.ErrAbortHandler) }

// once meddles with the first request that is of a kind, and serves all others.
func (f *fake) once(is func(*http.Request) bool, fault func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc)) {
	var done atomic.Bool
	f.meddle(func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		if is(r) && done.CompareAndSwap(false, true) {
			fault(w, r, next)
			return
		}
		next(w, r)
	})
}

// lost serves a request whose response never arrives.
func lost(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
	next(httptest.NewRecorder(), r)
	cut(w)
}

// change is a conditional write of a blob.
type change struct {
	name string
	is   func(*http.Request) bool // whether a request is the one that writes
	do   func(t *testing.T, b *bucket, data string) error
}

func isPut(r *http.Request) bool {
	return r.Method == http.MethodPut && r.URL.Query().Get("comp") == ""
}

func isCommit(r *http.Request) bool { return r.URL.Query().Get("comp") == "blocklist" }

// changes are all conditional writes. Those with IfMatch find "before".
func changes() []change {
	put := func(cond func(*testing.T, *bucket) objectstore.Condition) func(*testing.T, *bucket, string) error {
		return func(t *testing.T, b *bucket, data string) error {
			return b.Put(t.Context(), "a", []byte(data), cond(t, b))
		}
	}
	complete := func(cond func(*testing.T, *bucket) objectstore.Condition) func(*testing.T, *bucket, string) error {
		return func(t *testing.T, b *bucket, data string) error {
			holds := cond(t, b)
			return begin(t, b, data).Complete(t.Context(), holds)
		}
	}
	absent := func(*testing.T, *bucket) objectstore.Condition { return objectstore.IfAbsent }
	match := func(t *testing.T, b *bucket) objectstore.Condition {
		if err := b.Put(t.Context(), "a", []byte("before"), objectstore.Always); err != nil {
			t.Fatal(err)
		}
		o, err := b.Head(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		return objectstore.IfMatch(o.ETag)
	}
	conditional := func(is func(*http.Request) bool) func(*http.Request) bool {
		return func(r *http.Request) bool {
			return is(r) && r.Header.Get("If-Match")+r.Header.Get("If-None-Match") != ""
		}
	}
	return []change{
		{"Put if absent", conditional(isPut), put(absent)},
		{"Put if it matches", conditional(isPut), put(match)},
		{"Complete if absent", conditional(isCommit), complete(absent)},
		{"Complete if it matches", conditional(isCommit), complete(match)},
	}
}

// begin writes an upload of one part.
func begin(t *testing.T, b *bucket, data string) objectstore.Upload {
	t.Helper()
	u, err := b.Begin(t.Context(), "a")
	if err == nil {
		err = u.Part(t.Context(), []byte(data))
	}
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func read(t *testing.T, b *bucket, key string) string {
	t.Helper()
	_, body, err := b.Get(t.Context(), key, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestLostResponse: a conditional write whose response was lost is repeated by the SDK, and
// then refused because of itself. It has succeeded.
func TestLostResponse(t *testing.T) {
	for _, c := range changes() {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t)
			b := f.bucket()
			f.once(c.is, lost)
			if err := c.do(t, b, "mine"); err != nil {
				t.Errorf("the write has succeeded, and says %v", err)
			}
			if got := read(t, b, "a"); got != "mine" {
				t.Errorf("the blob has %q", got)
			}
		})
	}
}

// TestLostRequest: a conditional write whose first request was lost, while another writer
// was faster, has not succeeded, even if the other one has written the same bytes.
func TestLostRequest(t *testing.T) {
	for _, c := range changes() {
		for _, other := range []string{"theirs", "mine"} {
			t.Run(c.name+", there is "+other, func(t *testing.T) {
				f := newFake(t)
				b := f.bucket()
				f.once(c.is, func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
					f.write("a", other)
					cut(w)
				})
				if err := c.do(t, b, "mine"); !errors.Is(err, objectstore.ErrChanged) {
					t.Errorf("the write was too late, and says %v", err)
				}
				if got := read(t, b, "a"); got != other {
					t.Errorf("the blob has %q, want %q", got, other)
				}
			})
		}
	}
}

// write is what another program writes.
func (f *fake) write(key, data string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.blocks, key)
	f.n++
	f.blobs[key] = fakeBlob{data: []byte(data), etag: `"other` + data + `"`}
}

// TestLostAndDeleted: a write whose response was lost and whose blob is gone when it is
// repeated is done again.
func TestLostAndDeleted(t *testing.T) {
	f := newFake(t)
	b := f.bucket()
	f.once(isPut, func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		next(httptest.NewRecorder(), r)
		f.mu.Lock()
		delete(f.blobs, "a")
		f.mu.Unlock()
		cut(w)
	})
	if err := b.Put(t.Context(), "a", []byte("mine"), objectstore.IfAbsent); err != nil {
		t.Error(err)
	}
	if got := read(t, b, "a"); got != "mine" {
		t.Errorf("the blob has %q", got)
	}
}

// TestTroubleThatPasses: what the service cannot do at the moment is tried again, and not
// for ever.
func TestTroubleThatPasses(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault func(w http.ResponseWriter)
	}{
		{"503", func(w http.ResponseWriter) { refuse(w, http.StatusServiceUnavailable, "ServerBusy") }},
		{"500", func(w http.ResponseWriter) { refuse(w, http.StatusInternalServerError, "OperationTimedOut") }},
		{"429", func(w http.ResponseWriter) { refuse(w, http.StatusTooManyRequests, "") }},
		{"cut", cut},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t)
			b := f.bucket()
			var tries, failures atomic.Int64
			f.meddle(func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
				tries.Add(1)
				if failures.Add(-1) >= 0 {
					c.fault(w)
					return
				}
				next(w, r)
			})
			failures.Store(3)
			if err := b.Put(t.Context(), "a", []byte("1"), objectstore.IfAbsent); err != nil {
				t.Errorf("three failures: %v", err)
			}
			tries.Store(0)
			failures.Store(1 << 20)
			_, err := b.Head(t.Context(), "a")
			if err == nil || errors.Is(err, store.ErrNotFound) || errors.Is(err, objectstore.ErrChanged) {
				t.Errorf("failures without end: %v", err)
			}
			if n := tries.Load(); n < 2 || n > 8 { // net/http repeats a request by itself, too
				t.Errorf("%d requests", n)
			}
		})
	}
}

// TestRefusedEarly: a request that is refused before its body was read is repeated with the
// whole body, while the former one may still be sent.
func TestRefusedEarly(t *testing.T) {
	f := newFake(t)
	b := f.bucket()
	f.early = true
	data := strings.Repeat("0123456789abcdef", objectstore.PartSize/16)
	for _, c := range changes()[:3] {
		f.once(func(r *http.Request) bool { return r.Method == http.MethodPut }, func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
			refuse(w, http.StatusServiceUnavailable, "ServerBusy")
		})
		if err := c.do(t, b, data); err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if read(t, b, "a") != data {
			t.Errorf("%s: the blob has other bytes", c.name)
		}
		if err := b.Delete(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCutBody: a download that breaks off does not end as if it were whole.
func TestCutBody(t *testing.T) {
	f := newFake(t)
	b := f.bucket()
	data := strings.Repeat("0123456789", 1<<10)
	f.write("a", data)
	f.meddle(func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		rec := httptest.NewRecorder()
		next(rec, r)
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes()[:rec.Body.Len()/2])
		w.(http.Flusher).Flush()
		cut(w)
	})
	for _, offset := range []int64{0, 100} {
		_, body, err := b.Get(t.Context(), "a", offset)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(body)
		body.Close()
		if err == nil || !strings.Contains(err.Error(), b.String()+"/a: ") || !strings.HasPrefix(data[offset:], string(got)) {
			t.Errorf("from %d on: %d bytes, error %v", offset, len(got), err)
		}
	}
}

// TestPartThatBeginsElsewhere: a response to the request for a part that is something else
// is not taken for it.
func TestPartThatBeginsElsewhere(t *testing.T) {
	for name, fault := range map[string]func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc){
		"the whole": func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
			r.Header.Del("X-Ms-Range")
			next(w, r)
		},
		"another part": func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
			r.Header.Set("X-Ms-Range", "bytes=1-")
			next(w, r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.write("a", "0123456789")
			f.meddle(fault)
			if _, body, err := f.bucket().Get(t.Context(), "a", 5); err == nil {
				got, _ := io.ReadAll(body)
				body.Close()
				t.Errorf("got %q", got)
			}
		})
	}
}

// TestUploadsOfOneBlob: uploads of one blob share its uncommitted blocks at Azure, and a
// commit discards those of others.
func TestUploadsOfOneBlob(t *testing.T) {
	part := strings.Repeat("p", objectstore.PartSize)
	upload := func(t *testing.T, b *bucket, data string) objectstore.Upload {
		u := begin(t, b, data[:objectstore.PartSize])
		if err := u.Part(t.Context(), []byte(data[objectstore.PartSize:])); err != nil {
			t.Fatal(err)
		}
		return u
	}
	for name, open := range map[string]func(t *testing.T) *bucket{
		"fake":    func(t *testing.T) *bucket { return newFake(t).bucket() },
		"Azurite": func(t *testing.T) *bucket { return newBucket(azuriteContainer(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			first, same, other := upload(t, b, part+"x"), upload(t, b, part+"x"), upload(t, b, part+"y")
			if err := first.Complete(t.Context(), objectstore.IfAbsent); err != nil {
				t.Fatal(err)
			}
			late := upload(t, b, part+"x")
			for _, u := range []objectstore.Upload{same, other, late} {
				if err := u.Complete(t.Context(), objectstore.IfAbsent); !errors.Is(err, objectstore.ErrChanged) {
					t.Errorf("the second commit: %v", err)
				}
			}
			if read(t, b, "a") != part+"x" {
				t.Error("the blob has other bytes than the first upload")
			}
			if err := b.Delete(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
			// The blocks of these are gone, with no blob in their place.
			if err := other.Complete(t.Context(), objectstore.IfAbsent); !errors.Is(err, objectstore.ErrChanged) {
				t.Errorf("a commit of what was discarded: %v", err)
			}
			if _, err := b.Head(t.Context(), "a"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("after it: %v", err)
			}
			if err := upload(t, b, part+"y").Complete(t.Context(), objectstore.IfAbsent); err != nil {
				t.Errorf("an upload that begins anew: %v", err)
			}
			if read(t, b, "a") != part+"y" {
				t.Error("the blob has other bytes than the last upload")
			}
		})
	}
}

// TestUploadsAgainTakeNoSpace: an upload that is tried again replaces the blocks that the
// failed one has left for a week.
func TestUploadsAgainTakeNoSpace(t *testing.T) {
	f := newFake(t)
	b := f.bucket()
	for range 3 {
		if err := begin(t, b, "part").Abort(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(f.blocks["a"]); n != 1 {
		t.Errorf("%d blocks are left, want 1", n)
	}
	a, b2 := blockID(1, []byte("x")), blockID(2, []byte("x"))
	if a == b2 || len(a) != len(blockID(50000, bytes.Repeat([]byte("y"), 1000))) {
		t.Errorf("block IDs %s and %s", a, b2)
	}
}
