package cache_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook"
)

const (
	// killsVariable is how often the process is killed in all; 20 a round.
	killsVariable = "PULLTHROUGH_KILLS"
	killsARound   = 20
	roundPace     = 16 * mib
)

// survivor is a cache that is killed again and again while it copies.
type survivor struct {
	*testing.T
	up     *upstreamtest.Registry
	dir    string
	images []upstreamtest.Image // by tag "v0", "v1" ...
	hook   *httptest.Server
	client *http.Client

	mu  sync.Mutex
	ids map[string]map[string]int // what an event is about -> its ids
	url string                    // of the process that lives; empty: none
}

func newSurvivor(t *testing.T, r *rand.Rand) *survivor {
	s := &survivor{T: t, up: upstreamtest.NewRegistry(t), dir: t.TempDir(), ids: map[string]map[string]int{}, client: &http.Client{Transport: &http.Transport{}}}
	s.hook = httptest.NewServer(http.HandlerFunc(s.event))
	t.Cleanup(s.hook.Close)
	t.Cleanup(s.client.CloseIdleConnections)
	shared := upstreamtest.Bytes(1<<33, mib)
	for i := range 20 {
		layers := [][]byte{shared, upstreamtest.Bytes(uint64(i)<<8|1, r.IntN(4*mib)+1), upstreamtest.Bytes(uint64(i)<<8|2, r.IntN(200<<10)+1)}
		if i%3 == 0 {
			s.images = append(s.images, s.up.AddMultiPlatform("team/api", fmt.Sprint("v", i), layers, "amd64", "arm64"))
		} else {
			s.images = append(s.images, s.up.AddImage("team/api", fmt.Sprint("v", i), layers))
		}
	}
	s.up.Pace(roundPace)
	return s
}

// event takes events over, and answers slowly, so that a process is killed that
// does not know yet.
func (s *survivor) event(w http.ResponseWriter, r *http.Request) {
	var ev webhook.Event
	if err := json.NewDecoder(r.Body).Decode(&ev); err != nil {
		return // the process was killed in the middle
	}
	defer func() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-r.Context().Done():
		}
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	about := ev.Action + " " + ev.Subject()
	if ev.Target.Tag != "" {
		about += "@" + ev.Target.Digest
	}
	if s.ids[about] == nil {
		s.ids[about] = map[string]int{}
	}
	s.ids[about][ev.ID]++
}

// pulled are the manifests that a client of amd64 gets of an image.
func pulled(img upstreamtest.Image) (index, platform upstreamtest.Image) {
	if len(img.Children) > 0 {
		return img, img.Children[0]
	}
	return img, img
}

func blobsOf(img upstreamtest.Image) []ocispec.Descriptor {
	return slices.Concat(img.Layers, []ocispec.Descriptor{img.Config})
}

// missing are the events that did not come yet.
func (s *survivor) missing() (missing []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, img := range s.images {
		index, platform := pulled(img)
		for _, about := range []string{
			fmt.Sprintf("push app/api:v%d@%s", i, index.Digest), "push app/api@" + index.Digest.String(), "push app/api@" + platform.Digest.String(),
		} {
			if len(s.ids[about]) == 0 {
				missing = append(missing, about)
			}
		}
	}
	return missing
}

// pull pulls an image as a client does that gives up at the first error.
func (s *survivor) pull(ctx context.Context, url string, i int) error {
	index, platform := pulled(s.images[i])
	want := []struct {
		path   string
		digest digest.Digest
	}{{fmt.Sprint("manifests/v", i), index.Digest}, {"manifests/" + platform.Digest.String(), platform.Digest}}
	for _, d := range blobsOf(platform) {
		want = append(want, struct {
			path   string
			digest digest.Digest
		}{"blobs/" + d.Digest.String(), d.Digest})
	}
	for _, w := range want {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/v2/app/api/"+w.path, nil)
		if err != nil {
			return err
		}
		resp, err := s.client.Do(req)
		if err != nil {
			return err
		}
		v := w.digest.Verifier()
		_, err = io.Copy(v, resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %d, %v", w.path, resp.StatusCode, err)
		}
		if !v.Verified() {
			s.Errorf("%s was served whole with wrong bytes", w.path)
		}
	}
	return nil
}

// clients pull in random order whatever happens, until ctx ends.
func (s *survivor) clients(ctx context.Context, seed uint64, running *sync.WaitGroup) {
	for n := range uint64(3) {
		running.Go(func() {
			r := rand.New(rand.NewPCG(seed, n))
			for ctx.Err() == nil {
				s.mu.Lock()
				url := s.url
				s.mu.Unlock()
				if url == "" || s.pull(ctx, url, r.IntN(len(s.images))) != nil {
					time.Sleep(time.Millisecond) // a client that pauses before it tries again
				}
			}
		})
	}
}

// live is the process that clients use.
func (s *survivor) live(p *process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.url = ""
	if p != nil {
		s.url = p.url
	}
}

// keptEvents are the images whose tag has an event in the records of a store.
func (s *survivor) keptEvents(dir *store.Dir) map[int]bool {
	kept := map[int]bool{}
	for key, err := range dir.RecordKeys(s.Context(), "outbox") {
		data, rerr := dir.Record(s.Context(), "outbox", key)
		if err != nil || rerr != nil {
			s.Errorf("the record of an event: %v, %v", err, rerr)
		}
		for i := range s.images {
			if strings.Contains(string(data), fmt.Sprintf(`"tag":"v%d"`, i)) {
				kept[i] = true
			}
		}
	}
	return kept
}

// came reports whether the event of a tag has come.
func (s *survivor) came(i int, index upstreamtest.Image) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ids[fmt.Sprintf("push app/api:v%d@%s", i, index.Digest)]) > 0
}

// wholeTags looks into the store of a process that is dead: each tag stands for
// something that can be served whole with the upstream gone, and has moved exactly if its
// event is kept or came.
func (s *survivor) wholeTags() {
	dir, err := store.OpenDir(s.dir)
	if err != nil {
		s.Fatal(err)
	}
	defer func() { _ = dir.Close() }()
	kept := s.keptEvents(dir)
	for i, img := range s.images {
		tag, err := dir.Tag(s.Context(), "app/api", fmt.Sprint("v", i))
		index, platform := pulled(img)
		if event := kept[i] || s.came(i, index); event != (err == nil) {
			s.Errorf("tag v%d has moved: %v; its event is kept or came: %v (%v)", i, err == nil, event, err)
		}
		if err != nil {
			continue
		}
		need := append([]ocispec.Descriptor{index.Descriptor, platform.Descriptor}, blobsOf(platform)...)
		for _, d := range need {
			info, r, err := dir.Open(s.Context(), "app/api", d.Digest)
			if err != nil {
				s.Errorf("tag v%d stands for %s, whose %s is missing: %v", i, tag.Digest, d.Digest, err)
				continue
			}
			if n, err := r.Seek(0, io.SeekEnd); err != nil || n != d.Size || info.Digest != d.Digest {
				s.Errorf("tag v%d: %s has %d bytes, want %d (%v)", i, d.Digest, n, d.Size, err)
			}
			_ = r.Close()
		}
	}
}

// files looks at what is left on disk at the end: every byte hashes right, and
// nothing is temporary.
func (s *survivor) files() {
	err := filepath.WalkDir(s.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(s.dir, path)
		switch {
		case strings.HasPrefix(rel, "partial/"):
			s.Errorf("%s is left over", rel)
		case strings.HasPrefix(rel, "blobs/sha256/"):
			data, err := os.ReadFile(path)
			name, _, _ := strings.Cut(e.Name(), "@")
			if err != nil || digest.FromBytes(data).Encoded() != name {
				s.Errorf("%s holds something else (%v)", rel, err)
			}
		}
		return nil
	})
	if err != nil {
		s.Error(err)
	}
}

// size is one copy of everything that clients pull.
func (s *survivor) size() (n int64) {
	seen := map[digest.Digest]bool{}
	for _, img := range s.images {
		_, platform := pulled(img)
		for _, d := range blobsOf(platform) {
			if !seen[d.Digest] {
				seen[d.Digest] = true
				n += d.Size
			}
		}
	}
	return n
}

// round kills a process 20 times while it copies 20 images, and looks at what is
// there after the last start.
func (s *survivor) round(r *rand.Rand) {
	ctx, cancel := context.WithCancel(s.Context())
	defer cancel()
	var running sync.WaitGroup
	s.clients(ctx, r.Uint64(), &running)
	// Moments that are spread over the time that one copy of everything takes.
	span := time.Duration(float64(s.size()) / roundPace * 1.5 / killsARound * float64(time.Second))
	for range killsARound {
		p := start(s.T, s.dir, s.up, s.hook.URL)
		s.live(p)
		time.Sleep(time.Duration(r.Int64N(int64(2 * span)))) // the random moment
		p.kill()
		s.live(nil)
		s.wholeTags()
	}
	cancel()
	running.Wait()
	s.up.Pace(0)
	p := start(s.T, s.dir, s.up, s.hook.URL)
	for i := range s.images {
		if err := s.pull(s.Context(), p.url, i); err != nil {
			s.Errorf("v%d after the last start: %v", i, err)
		}
	}
	deadline := time.Now().Add(time.Minute)
	for len(s.missing()) > 0 {
		if time.Now().After(deadline) {
			s.Fatalf("events that did not come: %v", s.missing())
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.up.Stop()
	for i := range s.images {
		if err := s.pull(s.Context(), p.url, i); err != nil {
			s.Errorf("v%d with the upstream gone: %v", i, err)
		}
	}
	if err := p.end(); err != nil {
		s.Errorf("the process ends with %v", err)
	}
	s.files()
	repeated := 0
	s.mu.Lock() // one that was killed may have sent something that is read late
	defer s.mu.Unlock()
	for about, ids := range s.ids {
		if len(ids) != 1 {
			s.Errorf("%s has the ids %v", about, ids)
		}
		for _, n := range ids {
			repeated += n - 1
		}
	}
	size, sent := s.size(), s.up.BlobBytes("")
	s.Logf("%d events, %d of them repeated; the upstream sent %.2f x of %d MiB", len(s.ids), repeated, float64(sent)/float64(size), size/mib)
	if limit := size*12/10 + killsARound*16*mib; sent > limit {
		s.Errorf("the upstream sent %d bytes, %d are allowed", sent, limit)
	}
}

// A process that is killed at random moments loses nothing: every image is
// complete after the last start, every event comes with an id that stays, every
// byte is right, and a tag never stands for something that is not whole.
func TestKilledAtRandom(t *testing.T) {
	kills := killsARound
	if text := os.Getenv(killsVariable); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("%s: %v", killsVariable, err)
		}
		kills = n
	}
	for round := range max(1, kills/killsARound) {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			r := rand.New(rand.NewPCG(2026, uint64(round)))
			newSurvivor(t, r).round(r)
		})
	}
}
