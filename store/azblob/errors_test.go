package azblob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/internal/objectstore"
	"github.com/pullthrough/pullthrough/store"
)

// everything returns the errors of all methods.
func everything(ctx context.Context, b *bucket) map[string]error {
	errs := map[string]error{}
	_, errs["Head"] = b.Head(ctx, "a")
	_, body, err := b.Get(ctx, "a", 1)
	if err == nil {
		_, err = io.ReadAll(body)
		body.Close()
	}
	errs["Get"] = err
	errs["Put"] = b.Put(ctx, "a", []byte("1"), objectstore.IfAbsent)
	errs["Delete"] = b.Delete(ctx, "a")
	for _, err := range b.List(ctx, objectstore.Range{Prefix: "a"}) {
		errs["List"] = err
	}
	for _, err := range b.List(ctx, objectstore.Range{Prefix: "a", Delimiter: "/"}) {
		errs["List of groups"] = err
	}
	u, err := b.Begin(ctx, "a")
	if err != nil {
		errs["Begin"] = err
		return errs
	}
	errs["Part"] = u.Part(ctx, []byte("1"))
	errs["Complete"] = u.Complete(ctx, objectstore.IfAbsent)
	return errs
}

// printed is everything that an error and what it wraps can print.
func printed(err error) string {
	var text strings.Builder
	var walk func(err error)
	walk = func(err error) {
		fmt.Fprintf(&text, "%v %+v %#v %q\n", err, err, err, err)
		switch w := err.(type) {
		case interface{ Unwrap() error }:
			if inner := w.Unwrap(); inner != nil {
				walk(inner)
			}
		case interface{ Unwrap() []error }:
			for _, inner := range w.Unwrap() {
				walk(inner)
			}
		}
	}
	walk(err)
	return text.String()
}

// TestErrorsHaveNoSecrets causes every failure with every credential, and looks for the
// secrets in all that can be printed.
func TestErrorsHaveNoSecrets(t *testing.T) {
	type fault = func(w http.ResponseWriter, r *http.Request)
	faults := map[string]fault{
		"cut": func(w http.ResponseWriter, r *http.Request) { cut(w) },
		"not HTTP": func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			fmt.Fprintf(conn, "%s\r\n\r\n", r.URL.RawQuery+r.Header.Get("Authorization"))
			conn.Close()
		},
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", r.URL.String()+"&auth="+r.Header.Get("Authorization"))
			w.WriteHeader(http.StatusTemporaryRedirect)
		},
		"no XML": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-"+r.URL.RawQuery)
			fmt.Fprint(w, "<not>"+r.URL.RawQuery+r.Header.Get("Authorization"))
		},
	}
	for _, status := range []int{400, 401, 403, 404, 409, 412, 416, 500, 503, 507} {
		for _, code := range []string{"", "SomethingElse", secret + "?sig=" + secret} {
			faults[fmt.Sprint(status, " ", code)] = func(w http.ResponseWriter, r *http.Request) {
				refuse(w, status, code)
				fmt.Fprint(w, r.URL.RawQuery, r.Header.Get("Authorization"))
			}
		}
	}
	f := newFake(t)
	for kind, access := range f.accesses(t) {
		c, err := NewClient(access)
		if err != nil {
			t.Fatal(err)
		}
		b := newBucket(c)
		for name, fault := range faults {
			seen := []string{secret}
			f.meddle(func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
				if _, signature, ok := strings.Cut(r.Header.Get("Authorization"), ":"); ok {
					f.mu.Lock()
					seen = append(seen, signature)
					f.mu.Unlock()
				}
				fault(w, r)
			})
			for method, err := range everything(t.Context(), b) {
				if err == nil && !(name == "no XML" && !strings.HasPrefix(method, "List")) && !(method == "Delete" && strings.HasPrefix(name, "404 ")) {
					t.Errorf("%s, %s: %s succeeds", kind, name, method)
				}
				f.mu.Lock()
				secrets := slices.Clone(seen)
				f.mu.Unlock()
				for _, s := range secrets {
					if err != nil && strings.Contains(printed(err), s) {
						t.Errorf("%s, %s: the error of %s has a secret: %.400s", kind, name, method, printed(err))
						break
					}
				}
			}
		}
	}
}

// accesses are a SAS and a key for the fake.
func (f *fake) accesses(t *testing.T) map[string]ClientOptions {
	sas := f.access(&http.Client{Transport: &http.Transport{}})
	key := sas
	key.SAS, key.Key = auth.Sensitive{}, auth.NewSensitive(azuriteKey)
	return map[string]ClientOptions{"SAS": sas, "key": key}
}

// TestRefusals: what callers look for in the answers of the service, to a read, to a write
// with a condition and to one without.
func TestRefusals(t *testing.T) {
	f := newFake(t)
	b := f.bucket()
	for _, c := range []struct {
		status             int
		code               string
		read, write, plain error
		text               string
	}{
		{404, "BlobNotFound", store.ErrNotFound, objectstore.ErrChanged, nil, ""},
		{404, "", store.ErrNotFound, objectstore.ErrChanged, nil, ""},
		{404, "ContainerNotFound", nil, nil, nil, "the container must exist"},
		{404, "ResourceNotFound", nil, nil, nil, ""},
		{409, "BlobAlreadyExists", objectstore.ErrChanged, objectstore.ErrChanged, nil, ""},
		{409, "", objectstore.ErrChanged, objectstore.ErrChanged, nil, ""},
		{409, "ContainerBeingDeleted", nil, nil, nil, ""},
		{409, "BlobArchived", nil, nil, nil, "archive tier"},
		{409, "BlobImmutableDueToPolicy", nil, nil, nil, "immutability policy"},
		{409, "BlockCountExceedsLimit", nil, nil, nil, ""},
		{412, "ConditionNotMet", objectstore.ErrChanged, objectstore.ErrChanged, nil, ""},
		{412, "", objectstore.ErrChanged, objectstore.ErrChanged, nil, ""},
		{412, "LeaseIdMissing", nil, nil, nil, "lease"},
		{400, "InvalidBlockList", objectstore.ErrChanged, objectstore.ErrChanged, objectstore.ErrChanged, ""},
		{400, "InvalidHeaderValue", nil, nil, nil, ""},
		{403, "AuthorizationPermissionMismatch", nil, nil, nil, "Storage Blob Data Contributor"},
		{403, "AuthenticationFailed", nil, nil, nil, "expired"},
		{403, "AuthorizationFailure", nil, nil, nil, "network rules"},
		{507, "", store.ErrFull, store.ErrFull, nil, ""},
	} {
		f.meddle(func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) { refuse(w, c.status, c.code) })
		_, read := b.Head(t.Context(), "a")
		write := b.Put(t.Context(), "a", nil, objectstore.IfAbsent)
		plain := b.Put(t.Context(), "a", nil, objectstore.Always)
		for _, e := range []struct{ got, want error }{{read, c.read}, {write, c.write}, {plain, c.plain}} {
			for _, sentinel := range []error{store.ErrNotFound, objectstore.ErrChanged, store.ErrFull} {
				if errors.Is(e.got, sentinel) != (sentinel == e.want) {
					t.Errorf("%d %s: %v, want %v", c.status, c.code, e.got, e.want)
				}
			}
			for _, text := range []string{b.String() + "/a", fmt.Sprint(c.status), c.code, c.text, "0a1b2c3d-0000-0000-0000-000000000000"} {
				if !strings.Contains(e.got.Error(), text) {
					t.Errorf("%q does not say %q", e.got, text)
				}
			}
		}
	}
}

// TestContainerThatIsMissing: a container that is not there is not taken for an empty one.
func TestContainerThatIsMissing(t *testing.T) {
	f := newFake(t)
	a := f.access(&http.Client{Transport: &http.Transport{}})
	a.URL = strings.Replace(a.URL, "images", "imagse", 1)
	c, err := NewClient(a)
	if err != nil {
		t.Fatal(err)
	}
	for method, err := range everything(t.Context(), newBucket(c)) {
		if err == nil || errors.Is(err, store.ErrNotFound) || errors.Is(err, objectstore.ErrChanged) {
			t.Errorf("%s: %v", method, err)
		}
	}
}
