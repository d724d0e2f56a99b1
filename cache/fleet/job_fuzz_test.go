package fleet_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/fleet"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// FuzzPosts: whatever a replica posts, the answer is one of the protocol. A job that is taken
// is one of a repository that a rule covers, with a manifest that has its digest.
func FuzzPosts(f *testing.F) {
	up := upstreamtest.NewHandler()
	rules, err := rule.NewSet(rule.Rule{Name: "team", Source: simSource + "/team/*", Target: "mirror/*"})
	if err != nil {
		f.Fatal(err)
	}
	fl := &fleet.Fleet{Self: "self:1", Peers: fleet.Static("self:1"), Open: true, Insecure: true}
	var tags sync.Mutex
	c := &cache.Cache{ID: "x", Rules: rules, Store: farStore{&store.Mem{}, &store.Mem{}, &tags}, Upstream: fl.Opener(&upstream.Client{Transport: up.Transport()})}
	c.Copier = fl.Copier(c)
	h := fl.Handler(c)
	f.Cleanup(func() { _ = c.Shutdown(context.Background()) })
	img := up.AddImage("team/app", "v1", upstreamtest.Layers(1, 100))
	sourceOf := func(repository string) upstream.Source {
		name, ok := strings.CutPrefix(repository, "mirror/")
		if !ok {
			return upstream.Source{}
		}
		return upstream.Source{Rule: "team", Host: simSource, Repository: "team/" + name}
	}
	good, err := json.Marshal(map[string]any{
		"id": "X", "repository": "mirror/app", "source": sourceOf("mirror/app"), "digest": img.Digest, "mediaType": img.MediaType, "manifest": img.Manifest,
		"created": time.Now(), "tags": []any{map[string]any{"tag": "v1", "asked": time.Now()}}, "platforms": []string{"linux/amd64"},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("copies", good)
	f.Add("copies/state", good)
	f.Add("copies", bytes.Replace(good, []byte(`"team/app"`), []byte(`"other/app"`), 1))
	f.Add("forget", []byte(`{"repository":"mirror/app","reference":"v1","at":"2100-01-01T00:00:00Z"}`))
	f.Add("forget", []byte(`{"repository":"mirror/app","reference":"sha256:x"}`))
	if id, err := c.Accept(f.Context(), cache.Job{ID: "X", Repository: "mirror/app", Source: sourceOf("mirror/app"), Digest: img.Digest, Data: good}); err != nil || id != "X" {
		f.Fatalf("%q, %v", id, err) // the first of them is to be taken
	}
	f.Fuzz(func(t *testing.T, path string, data []byte) {
		if !slices.Contains([]string{"copies", "copies/state", "forget"}, path) {
			return
		}
		var job struct {
			ID, Repository string
			Source         upstream.Source
			Digest         digest.Digest
			Manifest       []byte
		}
		_ = json.Unmarshal(data, &job)
		body := data
		if path != "forget" { // the outside of a job agrees with its inside
			var err error
			if body, err = json.Marshal(cache.Job{ID: job.ID, Repository: job.Repository, Source: job.Source, Digest: job.Digest, Data: data}); err != nil {
				t.Fatal(err)
			}
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("POST", "/fleet/v1/"+path, bytes.NewReader(body)))
		switch {
		case !slices.Contains([]int{200, 202, 204, 400, 409, 410, 413, 503}, w.Code):
			t.Errorf("%s %q is answered %d", path, data, w.Code)
		case w.Code == 202 && (job.Source != sourceOf(job.Repository) || job.Digest.Algorithm().FromBytes(job.Manifest) != job.Digest):
			t.Errorf("%q is taken", data)
		}
	})
}
