package azblob

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/internal/objectstore/buckettest"
)

// tripper is a transport that changes requests.
type tripper func(*http.Request)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	f(r)
	return http.DefaultTransport.RoundTrip(r)
}

// mutants are buckets that send something else than they should.
var mutants = map[string]struct {
	change tripper
	caught []string // checks that fail
}{
	"none":                      {func(*http.Request) {}, nil},
	"Put without If-None-Match": {without(isPut, "If-None-Match"), []string{"put/absent", "put/race of IfAbsent"}},
	"Put without If-Match":      {without(isPut, "If-Match"), []string{"put/match", "put/race of ETags"}},
	"Complete without If-None-Match": {without(isCommit, "If-None-Match"),
		[]string{buckettest.CompleteConditions}},
	"Complete without If-Match": {without(isCommit, "If-Match"), []string{buckettest.CompleteConditions}},
	"Get from the start":        {without(isGet, "X-Ms-Range"), []string{"object/offset"}},
	"Delete is a Head": {func(r *http.Request) {
		if r.Method == http.MethodDelete {
			r.Method = http.MethodHead
		}
	}, []string{"object/delete"}},
	"List of everything":  {query("prefix"), []string{"list/order"}},
	"List without groups": {query("delimiter"), []string{"list/delimiter"}},
	"List from the start": {query("marker"), []string{"list/pages"}},
}

func isGet(r *http.Request) bool { return r.Method == http.MethodGet }

func without(is func(*http.Request) bool, header string) tripper {
	return func(r *http.Request) {
		if is(r) { // the SDK spells some headers in its own way
			maps.DeleteFunc(r.Header, func(name string, _ []string) bool { return strings.EqualFold(name, header) })
		}
	}
}

func query(name string) tripper {
	return func(r *http.Request) {
		q := r.URL.Query()
		q.Del(name)
		r.URL.RawQuery = q.Encode()
	}
}

// TestMutants: the checks of buckets find what this one could do wrong.
func TestMutants(t *testing.T) {
	biting := map[string]bool{}
	for _, m := range mutants {
		for _, name := range m.caught {
			biting[name] = true
		}
	}
	for name, m := range mutants {
		t.Run(name, func(t *testing.T) {
			found := 0
			for _, c := range buckettest.Checks() {
				find := slices.Contains(m.caught, c.Name)
				if !find && (m.caught != nil || !biting[c.Name]) {
					continue
				}
				if err := c.Func(t.Context(), newBucket(newFake(t).clientOver(m.change))); (err != nil) != find {
					t.Errorf("%s: %v, finds it: %v", c.Name, err, find)
				}
				if find {
					found++
				}
			}
			if found != len(m.caught) {
				t.Errorf("of the checks %q there are %d", m.caught, found)
			}
		})
	}
}
