package azblob

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/internal/objectstore"
)

func list(t *testing.T, b *bucket, r objectstore.Range) (keys []string, err error) {
	t.Helper()
	for key, err := range b.List(t.Context(), r) {
		if err != nil {
			return keys, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// TestNamesThatEndWithADot: Azure forbids them, and tags may have them.
func TestNamesThatEndWithADot(t *testing.T) {
	keys := []string{"t/v1", "t/v1-a", "t/v1.", "t/v1.-a", "t/v1..", "t/v1..a", "t/v1.0", "t/v1_"}
	slices.Sort(keys)
	f := newFake(t)
	b := f.bucket()
	for _, key := range keys {
		if err := b.Put(t.Context(), key, []byte(key), objectstore.IfAbsent); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
	for name := range f.blobs {
		for _, part := range strings.Split(name, "/") {
			if part[len(part)-1] == '.' {
				t.Errorf("the name of a blob has a part that ends with a dot: %s", name)
			}
		}
	}
	for _, key := range keys {
		if got := read(t, b, key); got != key {
			t.Errorf("%s has %q", key, got)
		}
	}
	if got, err := list(t, b, objectstore.Range{Prefix: "t/v1."}); err != nil || !slices.Equal(got, keys[2:7]) {
		t.Errorf("listed with a dot are %q, %v, want %q", got, err, keys[2:7])
	}
	if err := b.Put(t.Context(), "r/kind./a.", nil, objectstore.IfAbsent); err != nil {
		t.Error(err)
	}
	for _, r := range []objectstore.Range{{Prefix: "r/kind./"}, {Prefix: "r/kind./", Delimiter: "!"}, {Prefix: "r/"}} {
		if got, err := list(t, b, r); err != nil || !slices.Equal(got, []string{"r/kind./a."}) {
			t.Errorf("below %+v: %q, %v", r, got, err)
		}
	}
	if got, err := list(t, b, objectstore.Range{Prefix: "t/"}); err != nil || !slices.Equal(got, keys) {
		t.Errorf("listed are %q, %v, want %q", got, err, keys)
	}
}

// TestPagesOfLists: a list is whole, whatever pages the service makes of it, and does not
// read more pages than are wanted.
func TestPagesOfLists(t *testing.T) {
	f := newFake(t)
	b := f.bucket()
	var keys, groups []string
	for i := range 30 {
		key := fmt.Sprintf("l/%02d!/%d", i/3, i%3)
		f.write(key, "")
		keys = append(keys, key)
		if i%3 == 0 {
			groups = append(groups, fmt.Sprintf("l/%02d!", i/3))
		}
	}
	for size := 1; size <= 31; size++ {
		f.page = size
		if got, err := list(t, b, objectstore.Range{Prefix: "l/"}); err != nil || !slices.Equal(got, keys) {
			t.Errorf("pages of %d: %q, %v", size, got, err)
		}
		if got, err := list(t, b, objectstore.Range{Prefix: "l/", Delimiter: "!"}); err != nil || !slices.Equal(got, groups) {
			t.Errorf("pages of %d with groups: %q, %v", size, got, err)
		}
	}
	f.page = 7
	requests := 0
	f.meddle(func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		requests++
		next(w, r)
	})
	for range b.List(t.Context(), objectstore.Range{Prefix: "l/"}) {
		break
	}
	if requests != 1 {
		t.Errorf("the first key took %d requests", requests)
	}
}

// TestEmptyPage: a page without keys is not the end of a list.
func TestEmptyPage(t *testing.T) {
	f := newFake(t)
	f.write("l/a", "")
	f.meddle(func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		if r.URL.Query().Get("marker") == "" {
			fmt.Fprint(w, "<EnumerationResults><Blobs/><NextMarker>here</NextMarker></EnumerationResults>")
			return
		}
		next(w, r)
	})
	if got, err := list(t, f.bucket(), objectstore.Range{Prefix: "l/"}); err != nil || !slices.Equal(got, []string{"l/a"}) {
		t.Errorf("%q, %v", got, err)
	}
}

// TestListsInTrouble: a list that is not whole says so.
func TestListsInTrouble(t *testing.T) {
	page := func(marker string, names ...string) string {
		text := "<EnumerationResults><Blobs>"
		for _, name := range names {
			text += "<Blob><Name>" + name + "</Name></Blob>"
		}
		return text + "</Blobs><NextMarker>" + marker + "</NextMarker></EnumerationResults>"
	}
	for name, c := range map[string]struct {
		first, second string
		status        int
		order         bool
	}{
		"refused later":            {page("2", "l/a"), "", 403, false},
		"cut":                      {page("2", "l/a"), "<EnumerationResults><Blobs><Blob><Name>l/b", 200, false},
		"no list":                  {page("2", "l/a"), "<html>", 200, false},
		"folders before their own": {page("", "l/a/b", "l/a-b"), "", 200, true},
		"pages out of order":       {page("2", "l/b"), page("", "l/a"), 200, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.meddle(func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
				if r.URL.Query().Get("marker") == "" {
					fmt.Fprint(w, c.first)
					return
				}
				w.WriteHeader(c.status)
				fmt.Fprint(w, c.second)
			})
			_, err := list(t, f.bucket(), objectstore.Range{Prefix: "l/"})
			if err == nil || errors.Is(err, errOrder) != c.order {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestSizesOfPages: the first page is small, the others are as large as they may be.
func TestSizesOfPages(t *testing.T) {
	f := newFake(t)
	for i := range 250 {
		f.write(fmt.Sprintf("l/%03d", i), "")
	}
	var sizes []int
	f.meddle(func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		n, err := strconv.Atoi(r.URL.Query().Get("maxresults"))
		if err != nil {
			t.Error(err)
		}
		sizes = append(sizes, n)
		next(w, r)
	})
	got, err := list(t, f.bucket(), objectstore.Range{Prefix: "l/", After: "l/199"})
	if err != nil || len(got) != 50 || !slices.Equal(sizes, []int{100, 5000}) {
		t.Errorf("%d keys in pages of %v, %v", len(got), sizes, err)
	}
}
