package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/store"
)

// tagsList returns the URL at which the proxy lists the tags of a repository.
func (s *stack) tagsList(repository string) string {
	return "http://" + s.host + "/v2/" + repository + "/tags/list"
}

// listTags lists the tags while the upstream is up, so that the proxy has the list when the
// upstream is down.
func (s *stack) listTags(t *testing.T) {
	t.Helper()
	status, body := get(t, s.tagsList(localRepository))
	if status != 200 || !strings.Contains(string(body), `"`+tag+`"`) {
		t.Errorf("tags/list: status %d %s, want %q in it", status, body, tag)
	}
	s.settleLists(t, 1)
}

// settleLists waits until the store has a number of pages of lists, which the proxy stores
// in parallel to its response.
func (s *stack) settleLists(t *testing.T, pages int) {
	t.Helper()
	s.proxy.until(t, "lists in the store", func() bool {
		n := 0
		s.look(t, func(d *store.Dir) {
			for _, err := range d.RecordKeys(t.Context(), "lists") {
				if err == nil {
					n++
				}
			}
		})
		return n >= pages
	})
}

// wantTagListed fails unless the proxy lists the tag while the upstream is down, from the
// list that listTags got, and marks the list as such.
func (s *stack) wantTagListed(t *testing.T) {
	t.Helper()
	status, header, body := getAll(t, s.tagsList(localRepository))
	if status != 200 || !strings.Contains(string(body), `"`+tag+`"`) {
		t.Errorf("tags/list without the upstream: status %d %s, want %q in it", status, body, tag)
	}
	if how := header.Get("Cache-Status"); !strings.Contains(how, "fwd=stale") {
		t.Errorf("tags/list without the upstream: Cache-Status %q, want fwd=stale in it", how)
	}
	if _, err := strconv.Atoi(header.Get("Age")); err != nil {
		t.Errorf("tags/list without the upstream: Age %q, want a number", header.Get("Age"))
	}
}

// wantTagsUnknown fails unless the proxy responds that the upstream cannot be reached to list
// the tags of a repository. No client listed them before, and the stored tags are no list.
func (s *stack) wantTagsUnknown(t *testing.T, repository string) {
	t.Helper()
	status, body := get(t, s.tagsList(repository))
	if status != http.StatusBadGateway || !strings.Contains(string(body), `"errors":`) {
		t.Errorf("tags/list of %s, which nobody listed, without the upstream: status %d %s, want 502", repository, status, body)
	}
}

// pager serves tags/list as Artifactory does: in pages of its own size, whatever size is
// requested, and with links to the next page that have the path of the server behind the
// gateway.
func pager(repository string, tags []string, size int) answerer {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/v2/"+repository+"/tags/list" {
			return false
		}
		rest := tags
		if last := r.URL.Query().Get("last"); last != "" {
			rest = tags[slices.Index(tags, last)+1:]
		}
		if len(rest) > size {
			rest = rest[:size]
			w.Header().Set("Link", fmt.Sprintf(`</artifactory/api/docker/hub/v2/%s/tags/list?last=%s&n=%d>; rel="next"`,
				repository, rest[size-1], size))
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{"name": repository, "tags": rest})
		return true
	}
}

// TestTwelveTagsOfAPager lists a repository that an upstream lists in pages whose links lead
// elsewhere: every client receives all of its tags, also when the upstream is down.
func TestTwelveTagsOfAPager(t *testing.T) {
	crane, regctl, oras, s := tool(t, "crane"), tool(t, "regctl"), tool(t, "oras"), newStack(t)
	var want []string
	for i := range 12 {
		want = append(want, fmt.Sprintf("v%02d", i+1))
	}
	s.wire.misbehave(pager(upstreamRepository, want, 5))
	repository := s.host + "/" + localRepository
	list := func(when string) {
		for _, args := range [][]string{
			{crane, "ls", "--insecure", repository},
			{regctl, "tag", "ls", "--host", "reg=" + s.host + ",tls=disabled", repository},
			{oras, "repo", "tags", "--plain-http", repository},
		} {
			printed := command(t, args[0], args[1:]...)
			if got := strings.Fields(printed); !slices.Equal(got, want) {
				t.Errorf("%s %s lists %q, want %q", filepath.Base(args[0]), when, got, want)
			}
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	list("with the upstream")
	// The first page with and without a size, and the two that follow.
	s.settleLists(t, 4)
	wantNoDirect(t, s.wire.take(), "crane")
	s.wire.stop()
	list("without the upstream")
	s.wantGentleEnd(t)
}
