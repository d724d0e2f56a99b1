package store_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/store"
)

// spy is a store that notes its calls, and may meet them with something else.
type spy struct {
	*store.Mem
	mu    sync.Mutex
	calls []string
	meet  func(ctx context.Context, call string) error // called with no lock held; nil meets nothing
	bytes func(d digest.Digest) []byte                 // what Open reads instead
	most  atomic.Int64                                 // spools take no bytes from there on; 0: they do
}

func newSpy() *spy { return &spy{Mem: new(store.Mem)} }

var errSpy = errors.New("no connection")

// fails makes the calls fail that begin with one of some words.
func (s *spy) fails(words ...string) {
	s.meets(func(context.Context) error { return errSpy }, words...)
}

// hangs makes calls wait for the end of their context.
func (s *spy) hangs(words ...string) {
	s.meets(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, words...)
}

func (s *spy) meets(with func(context.Context) error, words ...string) {
	s.set(func(ctx context.Context, call string) error {
		for _, w := range words {
			if strings.HasPrefix(call, w) {
				return with(ctx)
			}
		}
		return nil
	})
}

func (s *spy) works() { s.set(nil) }

func (s *spy) set(meet func(ctx context.Context, call string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.meet = meet
}

func (s *spy) call(ctx context.Context, format string, args ...any) error {
	call := fmt.Sprintf(format, args...)
	s.mu.Lock()
	s.calls = append(s.calls, call)
	meet := s.meet
	s.mu.Unlock()
	if meet == nil {
		return nil
	}
	return meet(ctx, call)
}

// take returns the calls since the last time, and forgets them.
func (s *spy) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := s.calls
	s.calls = nil
	return calls
}

func (s *spy) Stat(ctx context.Context, repo string, d digest.Digest) (store.Info, error) {
	if err := s.call(ctx, "Stat %s", short(d)); err != nil {
		return store.Info{}, err
	}
	return s.Mem.Stat(ctx, repo, d)
}

func (s *spy) Open(ctx context.Context, repo string, d digest.Digest) (store.Info, io.ReadSeekCloser, error) {
	if err := s.call(ctx, "Open %s", short(d)); err != nil {
		return store.Info{}, nil, err
	}
	info, r, err := s.Mem.Open(ctx, repo, d)
	if err == nil && s.bytes != nil {
		if other := s.bytes(d); other != nil {
			r = nopCloser{bytes.NewReader(other)}
		}
	}
	return info, r, err
}

type nopCloser struct{ io.ReadSeeker }

func (nopCloser) Close() error { return nil }

func (s *spy) Create(ctx context.Context, repo string, want store.Info) (store.Writer, error) {
	if err := s.call(ctx, "Create %s", short(want.Digest)); err != nil {
		return nil, err
	}
	w, err := s.Mem.Create(ctx, repo, want)
	return spyWriter{w, s, want.Digest}, err
}

type spyWriter struct {
	store.Writer
	s *spy
	d digest.Digest
}

func (w spyWriter) Commit(ctx context.Context) error {
	if err := w.s.call(ctx, "Commit %s", short(w.d)); err != nil {
		return err
	}
	return w.Writer.Commit(ctx)
}

func (s *spy) Spool(ctx context.Context, repo string, want store.Info) (store.Spool, error) {
	spool, err := s.Mem.Spool(ctx, repo, want)
	if most := s.most.Load(); err == nil && most > 0 {
		spool = shortSpool{spool, most}
	}
	return spool, err
}

type shortSpool struct {
	store.Spool
	most int64
}

func (s shortSpool) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > s.most {
		return 0, store.ErrFull
	}
	return s.Spool.WriteAt(p, off)
}

func (s *spy) Adopt(ctx context.Context, repo string, want store.Info, allowed func(context.Context, io.ReadSeeker) error) error {
	if err := s.call(ctx, "Adopt %s", short(want.Digest)); err != nil {
		return err
	}
	return s.Mem.Adopt(ctx, repo, want, allowed)
}

func (s *spy) Tag(ctx context.Context, repo, tag string) (store.Tag, error) {
	if err := s.call(ctx, "Tag %s", tag); err != nil {
		return store.Tag{}, err
	}
	return s.Mem.Tag(ctx, repo, tag)
}

func (s *spy) SetTag(ctx context.Context, repo, tag string, t store.Tag) error {
	if err := s.call(ctx, "SetTag %s", tag); err != nil {
		return err
	}
	return s.Mem.SetTag(ctx, repo, tag, t)
}

func (s *spy) Delete(ctx context.Context, repo string, d digest.Digest) error {
	if err := s.call(ctx, "Delete %s", short(d)); err != nil {
		return err
	}
	return s.Mem.Delete(ctx, repo, d)
}

func short(d digest.Digest) string { return d.Encoded()[:6] }

const tierSource = "https://registry.example.com/team/api"

// tierImage is an image with a config and layers.
type tierImage struct {
	blobs    []store.Piece // the config first
	manifest store.Piece
}

func newImage(repo, name string, layers int) tierImage {
	contents := [][]byte{[]byte(`{"name":"` + name + `"}`)}
	for i := range layers {
		contents = append(contents, bytes.Repeat([]byte(fmt.Sprint(name, i, ";")), 30_000))
	}
	return imageOf(repo, contents)
}

// imageOf is an image of a config and layers.
func imageOf(repo string, contents [][]byte) tierImage {
	var img tierImage
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	piece := func(mediaType string, data []byte) store.Piece {
		desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
		return store.Piece{Repo: repo, Info: store.Info{Descriptor: desc, Source: tierSource}, Bytes: data}
	}
	for i, data := range contents {
		p := piece(ocispec.MediaTypeImageLayer, data)
		if img.blobs = append(img.blobs, p); i == 0 {
			m.Config = p.Info.Descriptor
			m.Config.MediaType = ocispec.MediaTypeImageConfig
		} else {
			m.Layers = append(m.Layers, p.Info.Descriptor)
		}
	}
	text, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	img.manifest = piece(ocispec.MediaTypeImageManifest, text)
	return img
}

func (img tierImage) all() []store.Piece {
	return append(img.blobs[:len(img.blobs):len(img.blobs)], img.manifest)
}

func (img tierImage) tag() store.Tag {
	return store.Tag{Descriptor: img.manifest.Info.Descriptor, Source: tierSource}
}

// putPiece writes content.
func putPiece(ctx context.Context, s store.Store, p store.Piece) error {
	w, err := s.Create(ctx, p.Repo, p.Info)
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.Write(p.Bytes); err != nil {
		return err
	}
	return w.Commit(ctx)
}

// putImage writes an image in the order of a copy.
func putImage(t testing.TB, s store.Store, img tierImage) {
	t.Helper()
	for _, p := range img.all() {
		if err := putPiece(t.Context(), s, p); err != nil {
			t.Fatal(err)
		}
	}
}

// wantIn fails unless a store has an image with its bytes.
func wantIn(t testing.TB, what string, s store.Store, img tierImage) {
	t.Helper()
	for i, p := range img.all() {
		if err := readsPiece(t.Context(), s, p); err != nil {
			t.Errorf("%s: piece %d of %d: %v", what, i, len(img.all()), err)
		}
	}
}

func readsPiece(ctx context.Context, s store.Store, p store.Piece) error {
	info, r, err := s.Open(ctx, p.Repo, p.Info.Digest)
	if err != nil {
		return err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if !bytes.Equal(data, p.Bytes) || info.Source != p.Info.Source || info.IsManifest() != p.Info.IsManifest() {
		return fmt.Errorf("other bytes or another kind: %+v", info)
	}
	return nil
}

// tierTest is a Tier of two spies in a bubble.
type ctxType = context.Context

type tierTest struct {
	*testing.T
	near, far *spy
	tier      *store.Tier
}

func inTier(t *testing.T, test func(t *tierTest)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		x := &tierTest{T: t, near: newSpy(), far: newSpy()}
		x.tier = newTier(t, x.near, x.far)
		test(x)
	})
}

// restart is a new process with the same stores.
func (t *tierTest) restart() {
	t.Helper()
	synctest.Wait()
	t.tier = newTier(t, t.near, t.far)
	t.near.take()
	t.far.take()
}

// elsewhere is a replica with a near store of its own.
func (t *tierTest) elsewhere() (other *store.Tier, near *store.Mem) {
	t.Helper()
	near = new(store.Mem)
	return newTier(t, near, t.far), near
}

// asked fails unless Far was called that often, after everything behind the calls is done.
func (t *tierTest) asked(want int, what string) {
	t.Helper()
	synctest.Wait()
	if calls := t.far.take(); len(calls) != want {
		t.Errorf("%s: far was called %d times, want %d: %q", what, len(calls), want, calls)
	}
}

type digestType = digest.Digest

// eventually waits for what is done behind the calls.
func eventually(t testing.TB, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not happen")
		}
	}
}
