package origin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream"
)

// shop opens repositories whose blobs another cache sends, the upstream sends, or nobody.
type shop struct {
	upstream.Repository
	via   string
	err   error
	hints []upstream.Hint
}

func (s *shop) Open(upstream.Source, auth.Authenticator) (upstream.Repository, error) { return s, nil }

func (s *shop) Blob(ctx context.Context, _ digest.Digest, offset, _ int64) (upstream.Body, error) {
	s.hints = append(s.hints, upstream.HintOf(ctx))
	return upstream.Body{ReadCloser: io.NopCloser(strings.NewReader("content")), Offset: offset, Length: 7, Size: 7, Via: s.via}, s.err
}

func (s *shop) StatBlob(ctx context.Context, _ digest.Digest) (ocispec.Descriptor, error) {
	s.hints = append(s.hints, upstream.HintOf(ctx))
	return ocispec.Descriptor{}, s.err
}

// inShop has a Repo whose local name is not the upstream's.
func inShop(t *testing.T, s *shop) (*Origins, Repo) {
	t.Helper()
	set, err := rule.NewSet(rule.Rule{Name: "a", Source: "registry.example.com/a/*", Target: "here/*"})
	if err != nil {
		t.Fatal(err)
	}
	o := New(Config{Rules: set, Upstream: s, ID: "here", MaxHops: 3, Requests: 1, RequestsPerHost: 1,
		AnswerTimeout: time.Second, SlotTimeout: time.Second, Ended: t.Context(), Log: slog.New(slog.DiscardHandler)})
	r, err := o.Find(t.Context(), "here/x")
	if err != nil {
		t.Fatal(err)
	}
	return o, r
}

// TestConnectionsAreCountedThatUpstreamsSee: each request for a blob or a part of it, and no
// look at the rule, and nothing that another cache sends.
func TestConnectionsAreCountedThatUpstreamsSee(t *testing.T) {
	s := &shop{}
	o, r := inShop(t, s)
	read := func() {
		t.Helper()
		up, err := r.Connect(t.Context(), 7)
		if err != nil {
			t.Fatal(err)
		}
		body, err := up.Blob(t.Context(), digest.FromString("content"), 0, -1)
		if !errors.Is(err, s.err) {
			t.Fatal(err)
		}
		if content, err := io.ReadAll(body); err != nil || string(content) != "content" || body.Via != s.via {
			t.Errorf("%q via %q, %v", content, body.Via, err)
		}
	}
	for _, step := range []struct {
		via                string
		err                error
		connections, bytes int64
	}{{"", nil, 1, 7}, {"peer", nil, 1, 7}, {"", errors.New("refused"), 2, 7}, {"peer", errors.New("refused"), 3, 7}, {"", nil, 4, 14}} {
		s.via, s.err = step.via, step.err
		read()
		for range 3 { // checkpoints
			if _, err := r.Connect(t.Context(), 7); err != nil {
				t.Fatal(err)
			}
		}
		if n := o.Counts(); n.Connections != step.connections || n.Bytes != step.bytes {
			t.Errorf("via %q, error %v: %+v, want %d connections and %d bytes", step.via, step.err, n, step.connections, step.bytes)
		}
	}
}

// TestDownloadsCarryAHint: each request of a download does, and it is about that download,
// whatever the request behind it carries. Other requests carry none.
func TestDownloadsCarryAHint(t *testing.T) {
	s := &shop{}
	_, r := inShop(t, s)
	outer := upstream.WithHint(t.Context(), upstream.Hint{Repository: "outer", Size: 99}) // of a cache that reads from this one
	r = r.Under(outer)
	for _, size := range []int64{7, -1} {
		up, err := r.Connect(t.Context(), size)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := up.Blob(t.Context(), digest.FromString("content"), 0, -1); err != nil {
			t.Error(err)
		}
		if _, err := up.StatBlob(t.Context(), digest.FromString("content")); err != nil {
			t.Error(err)
		}
		for _, h := range s.hints {
			if h != (upstream.Hint{Repository: "here/x", Size: size}) {
				t.Errorf("hint %+v", h)
			}
		}
		s.hints = nil
	}
	slot := slotOf(t, r)
	defer slot.Release()
	if _, err := slot.BlobSize(t.Context(), digest.FromString("content")); err != nil {
		t.Error(err)
	}
	if len(s.hints) == 0 {
		t.Error("nothing was asked")
	}
	for _, h := range s.hints {
		if h != (upstream.Hint{Size: -1}) {
			t.Errorf("a request that is no download's: %+v", h)
		}
	}
}
