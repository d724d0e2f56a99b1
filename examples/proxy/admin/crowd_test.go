package admin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/proxy/admin"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook"
)

// taker is a Copier that takes jobs and does none of them.
type taker struct{}

func (taker) Submit(context.Context, cache.Job) error { return nil }

// crowd returns an admin server of a cache that knows many rules, repositories with a stored
// image, and copies.
func crowd(tb testing.TB, rules, repositories, copies int) http.Handler {
	tb.Helper()
	up := upstreamtest.NewRegistry(tb)
	var list []rule.Rule
	for i := range rules {
		list = append(list, rule.Rule{Name: fmt.Sprintf("rule-%04d", i), Source: fmt.Sprintf("%s/r%04d/*", up.Host(), i), Target: fmt.Sprintf("r%04d/*", i)})
	}
	set, err := rule.NewSet(list...)
	if err != nil {
		tb.Fatal(err)
	}
	mem := &store.Mem{}
	outbox := &webhook.Outbox{}
	for i := range 200 {
		sink := webhook.SinkFunc(func(context.Context, webhook.Event) error { return nil })
		outbox.Receivers = append(outbox.Receivers, webhook.Receiver{Name: fmt.Sprintf("hook-%03d", i), Sink: sink})
	}
	ending := make(chan struct{})
	c := &cache.Cache{Rules: set, Store: mem, Upstream: up.Client(), Copier: taker{}}
	tb.Cleanup(func() {
		close(ending)
		_ = c.Shutdown(context.Background())
		_ = outbox.Shutdown(context.Background())
	})
	layers := upstreamtest.Layers(5, 100)
	for i := range copies {
		name := fmt.Sprintf("r%04d/app-%05d", i%rules, i%repositories)
		layers[0] = upstreamtest.Bytes(uint64(i), 100)
		up.AddImage(name, fmt.Sprint("v", i), layers)
		if _, _, err := c.Manifest(tb.Context(), name, fmt.Sprint("v", i)); err != nil {
			tb.Fatal(err)
		}
	}
	for i := range repositories {
		put(tb, mem, fmt.Sprintf("r%04d/app-%05d", i%rules, i), up.Host())
	}
	for i := range 2 * copies / 10 {
		put(tb, mem, "r0000/app-00000", up.Host(), fmt.Sprint("t", i))
	}
	return &admin.Server{
		API:    &admin.API{Cache: c, Store: mem, Rules: set, Outbox: outbox, Ending: ending},
		Access: admin.Access{Token: auth.Value{Text: auth.NewSensitive(token)}, OpenReading: true},
	}
}

// put stores a small image in a repository, and a tag for each name.
func put(tb testing.TB, s *store.Mem, repository, host string, tags ...string) {
	tb.Helper()
	data := fmt.Appendf(nil, `{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "annotations": {"tags": "%v"}}`, tags)
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(data), Size: int64(len(data))}
	info := store.Info{Source: "http://" + host + "/" + repository, Descriptor: desc}
	w, err := s.Create(tb.Context(), repository, info)
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Commit(tb.Context())
	}
	for _, tag := range append(tags, "latest") {
		if err == nil {
			err = s.SetTag(tb.Context(), repository, tag, store.Tag{Descriptor: desc, Source: info.Source, Asked: time.Now()})
		}
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// TestAnswersAreBounded: no list has more than was asked for, 500 at most, and its pages have
// together everything once.
func TestAnswersAreBounded(t *testing.T) {
	server := httptest.NewServer(crowd(t, 600, 600, 3000))
	defer server.Close()
	defer http.DefaultClient.CloseIdleConnections()
	get := func(path string) (list []json.RawMessage, next string) {
		t.Helper()
		resp, err := http.Get(server.URL + "/api/v1/" + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: status %d, %v: %.300s", path, resp.StatusCode, err, data)
		}
		if len(data) > 1<<20 {
			t.Errorf("%s: %d bytes", path, len(data))
		}
		var answer map[string]json.RawMessage
		if err := json.Unmarshal(data, &answer); err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(path, "?")
		if err := json.Unmarshal(answer[name], &list); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		_ = json.Unmarshal(answer["next"], &next)
		return list, next
	}
	_, _ = get("repositories?wait=30s")
	for path, want := range map[string]int{"copies?": 3000, "rules?": 600, "repositories?": 600, "tags?repository=r0000/app-00000&": 601, "manifests?repository=r0000/app-00000&": 601, "receivers?": 200} {
		for _, limit := range []int{0, 7, 500, 1000000} {
			if limit == 7 && want > 700 {
				continue
			}
			seen := map[string]bool{}
			query := path
			if limit > 0 {
				query += fmt.Sprint("limit=", limit, "&")
			}
			for next, last := "", false; !last; {
				var list []json.RawMessage
				list, next = get(query + "after=" + next)
				most := limit
				if most == 0 {
					most = 100
				}
				if most = min(most, 500); len(list) > most || next != "" && len(list) != most {
					t.Errorf("%slimit=%d: %d elements, next %q", path, limit, len(list), next)
				}
				for _, one := range list {
					if seen[string(one)] {
						t.Errorf("%s: %s is there twice", path, one)
					}
					seen[string(one)] = true
				}
				last = next == ""
			}
			if len(seen) != want {
				t.Errorf("%slimit=%d: %d elements in all, want %d", path, limit, len(seen), want)
			}
		}
	}
	if list, _ := get("repositories?order=bytes&limit=3"); len(list) != 3 {
		t.Errorf("the largest three: %s", list)
	}
}

// BenchmarkEndpoints: each must stay below 100 ms with 1,000 rules, 5,000 repositories and 10,000
// copies.
func BenchmarkEndpoints(b *testing.B) {
	h := crowd(b, 1000, 5000, 10000)
	get := func(b *testing.B, path string) {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "http://localhost/api/v1/"+path, nil)
		if h.ServeHTTP(w, r); w.Code != http.StatusOK {
			b.Fatalf("%s: status %d: %s", path, w.Code, w.Body)
		}
		b.ReportMetric(float64(w.Body.Len()), "bytes")
	}
	get(b, "repositories?wait=30s")
	for _, path := range []string{
		"copies", "copies?limit=500", "copies?state=parked", "copies?repository=r0001/app-00001", "rules", "rules?limit=500&after=rule-0499",
		"repositories", "repositories?limit=500", "repositories?order=bytes", "store", "stats", "receivers", "tags?repository=r0000/app-00000",
		"manifests?repository=r0000/app-00000", "explain?repository=r0001/app-00001&reference=v1",
	} {
		b.Run(path, func(b *testing.B) {
			for b.Loop() {
				get(b, path)
			}
		})
	}
}
