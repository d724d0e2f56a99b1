package cache_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// moody is a store in memory that can be full, and slow to write records.
type moody struct {
	*store.Mem
	full atomic.Bool
	slow time.Duration

	written atomic.Int64 // records
	hangs   bool
}

func (m *moody) Create(ctx context.Context, repo string, want store.Info) (store.Writer, error) {
	if m.full.Load() {
		return nil, store.ErrFull
	}
	return m.Mem.Create(ctx, repo, want)
}

func (m *moody) Spool(ctx context.Context, repo string, want store.Info) (store.Spool, error) {
	if m.full.Load() {
		return nil, store.ErrFull
	}
	return m.Mem.Spool(ctx, repo, want)
}

// Apply counts records too.
func (m *moody) Apply(ctx context.Context, b *store.Batch) error {
	if len(b.Content) > 0 && m.full.Load() {
		return store.ErrFull
	}
	for _, r := range b.Records {
		if r.Data != nil {
			m.writing()
		}
	}
	return m.Mem.Apply(ctx, b)
}

func (m *moody) writing() {
	if m.hangs {
		time.Sleep(24 * time.Hour)
	}
	time.Sleep(m.slow)
	m.written.Add(1)
}

func (m *moody) PutRecord(ctx context.Context, kind, key string, data []byte) error {
	m.writing()
	return m.Mem.PutRecord(ctx, kind, key, data)
}

func (m *moody) records(t *testing.T, kind string) (n int) {
	for _, err := range m.RecordKeys(t.Context(), kind) {
		if err != nil {
			t.Error(err)
		}
		n++
	}
	return n
}

// When a client has its answer, a crash does not lose the copy.
func TestCopyIsWrittenDownBeforeTheAnswer(t *testing.T) {
	inBubble(t, func(c *clock) {
		m := &moody{Mem: &store.Mem{}, slow: 300 * time.Millisecond}
		c.stop()
		c.store = m
		c.start()
		c.up.Fail(upstreamtest.Fault{Kind: "blob", Hang: true})
		c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.manifest("v1")
		if n := m.records(c.T, "jobs"); n != 1 {
			c.Errorf("%d records when the answer is there", n)
		}
	})
}

// Who pulls what is being copied makes it be written again only for what is new.
func TestRecordIsNotWrittenForEachPull(t *testing.T) {
	inBubble(t, func(c *clock) {
		m := &moody{Mem: &store.Mem{}}
		c.stop()
		c.store = m
		c.start()
		c.up.Fail(upstreamtest.Fault{Kind: "blob", Latency: time.Hour})
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.up.Tag("team/api", "v2", img.Digest)
		for range 20 {
			c.manifest("v1")
			c.manifest(img.Digest.String())
		}
		if n := m.written.Load(); n != 1 {
			c.Errorf("%d writes for twenty pulls of one image", n)
		}
		c.manifest("v2")
		if n := m.written.Load(); n != 2 {
			c.Errorf("%d writes with a second tag", n)
		}
	})
}

// A disk that hangs is no trouble of the client.
func TestRecordsThatHang(t *testing.T) {
	inBubble(t, func(c *clock) {
		m := &moody{Mem: &store.Mem{}, hangs: true}
		c.stop()
		c.store = m
		c.start()
		c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		begun := time.Now()
		c.manifest("v1")
		if d := time.Since(begun); d > 2*time.Second {
			c.Errorf("the client waited %v", d)
		}
	})
}

// A full store: clients are served, the copy waits and is not downloaded again
// and again, the log says why once, and it completes when there is room.
func TestFullStore(t *testing.T) {
	inBubble(t, func(c *clock) {
		m := &moody{Mem: &store.Mem{}}
		var log strings.Builder
		c.stop()
		c.store = m
		c.start(func(c *clock) { c.cache.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		m.full.Store(true)
		var images []upstreamtest.Image
		for i, tag := range []string{"v1", "v2", "v3"} {
			img := c.up.AddImage("team/api", tag, [][]byte{upstreamtest.Bytes(uint64(i), 300<<10)})
			images = append(images, img)
			c.manifest(tag)
			c.wantBlob(img.Layers[0].Digest)
			c.wantBlob(img.Config.Digest)
		}
		c.pass(time.Minute)
		for _, s := range c.cache.Copies() {
			if s.State != "paused" || s.Attempts != 0 || !strings.Contains(s.Err.Error(), "full") {
				c.Errorf("%s: %d attempts, %s", s.State, s.Attempts, s.Err)
			}
		}
		sent := c.up.BlobBytes("")
		c.pass(6 * time.Hour)
		if n := c.up.BlobBytes("") - sent; n > 0 {
			c.Errorf("%d bytes were downloaded for a store that is full", n)
		}
		if n := strings.Count(log.String(), "level=ERROR msg=\"a copy failed"); n != 1 {
			c.Errorf("%d lines say why:\n%s", n, log.String())
		}
		if strings.Contains(log.String(), "level=WARN msg=\"a copy failed") {
			c.Errorf("the log repeats it:\n%s", log.String())
		}
		c.wantBlob(images[0].Layers[0].Digest) // still
		m.full.Store(false)
		c.pass(10 * time.Minute)
		if n := len(c.cache.Copies()); n != 0 || len(c.events) != 6 {
			c.Errorf("%d copies and %d events when there is room", n, len(c.events))
		}
		c.up.Fail(upstreamtest.Fault{Status: 503})
		for i, tag := range []string{"v1", "v2", "v3"} {
			c.manifest(tag)
			c.wantBlob(images[i].Layers[0].Digest)
		}
	})
}

func (c *clock) wantBlob(d digest.Digest) {
	c.Helper()
	_, r, err := c.cache.Blob(c.Context(), "app/api", d)
	if err != nil {
		c.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	v := d.Verifier()
	if _, err := io.Copy(v, r); err != nil || !v.Verified() {
		c.Errorf("%s: %v", d, err)
	}
}

// Room is found out about at once by asking for it.
func TestRetryOfAFullStore(t *testing.T) {
	inBubble(t, func(c *clock) {
		m := &moody{Mem: &store.Mem{}}
		c.stop()
		c.store = m
		c.start()
		m.full.Store(true)
		c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.manifest("v1")
		c.pass(time.Hour)
		m.full.Store(false)
		if n, err := c.cache.Retry(c.Context(), "app/api", ""); n != 1 || err != nil {
			c.Errorf("%d, %v", n, err)
		}
		c.pass(time.Second)
		if n := len(c.cache.Copies()); n != 0 {
			c.Errorf("%d copies are left", n)
		}
	})
}

// sudden is a store in which a blob appears right after somebody has looked for
// it in vain, as when its download ends at that moment.
type sudden struct {
	*store.Mem
	digest digest.Digest
	add    func()
}

func (s *sudden) miss(d digest.Digest) {
	if d == s.digest && s.add != nil {
		add := s.add
		s.add = nil
		add()
	}
}

func (s *sudden) Stat(ctx context.Context, repo string, d digest.Digest) (store.Info, error) {
	info, err := s.Mem.Stat(ctx, repo, d)
	if err != nil {
		s.miss(d)
	}
	return info, err
}

func (s *sudden) Open(ctx context.Context, repo string, d digest.Digest) (store.Info, io.ReadSeekCloser, error) {
	info, r, err := s.Mem.Open(ctx, repo, d)
	if err != nil {
		s.miss(d)
	}
	return info, r, err
}

// Whoever misses a blob by a moment finds it, and asks the upstream nothing.
func TestBlobThatAppearsMeanwhile(t *testing.T) {
	for _, who := range []string{"copy", "client", "peer"} {
		inBubble(t, func(c *clock) {
			img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
			layer := img.Layers[0]
			s := &sudden{Mem: &store.Mem{}, digest: layer.Digest}
			s.add = func() {
				info := store.Info{Descriptor: layer, Source: "https://" + source + "/team/api"}
				w, err := s.Create(c.Context(), "app/api", info)
				if err != nil {
					c.Fatal(err)
				}
				defer func() { _ = w.Close() }()
				_, err = w.Write(c.up.Blob("team/api", layer.Digest))
				if err = errors.Join(err, w.Commit(c.Context())); err != nil {
					c.Error(err)
				}
			}
			c.stop()
			c.store = s
			c.start()
			switch who {
			case "copy":
				c.manifest("v1")
				c.pass(0)
			case "peer":
				if w := c.servePeer("app/api", c.sourceOf("api"), layer.Digest); w.Code != http.StatusOK || int64(w.Body.Len()) != layer.Size {
					c.Errorf("status %d, %d bytes", w.Code, w.Body.Len())
				}
			default:
				c.wantBlob(layer.Digest)
			}
			if n := c.up.Count("", "blob", layer.Digest.String()); n != 0 || s.add != nil {
				c.Errorf("%s: %d requests for the blob", who, n)
			}
		})
	}
}
