package storetest_test

import (
	"context"
	"io"
	"iter"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullthrough/pullthrough/store"
)

// broken is a Mem whose methods can be replaced one by one.
type broken struct {
	*store.Mem
	stat         func(repo string, d digest.Digest) (store.Info, error)
	open         func(repo string, d digest.Digest) (store.Info, io.ReadSeekCloser, error)
	create       func(repo string, want store.Info) (store.Writer, error)
	adopt        func(repo string, want store.Info, allowed allowed) error
	tag          func(repo, tag string) (store.Tag, error)
	setTag       func(repo, tag string, t store.Tag) error
	spool        func(repo string, want store.Info) (store.Spool, error)
	put          func(kind, key string, data []byte) error
	record       func(kind, key string) ([]byte, error)
	deleteRecord func(kind, key string) error
	recordKeys   func(kind string) iter.Seq2[string, error]
	delete       func(repo string, d digest.Digest) error
	deleteTag    func(repo, tag string) error
	repositories func(last string) iter.Seq2[string, error]
	tagNames     func(repo, last string) iter.Seq2[string, error]
	referrers    func(repo string, d digest.Digest) iter.Seq2[ocispec.Descriptor, error]
	manifests    func(ctx context.Context, repo string) iter.Seq2[store.Info, error]
	blobs        func(ctx context.Context, repo string) iter.Seq2[store.Info, error]
	apply        func(ctx context.Context, batch *store.Batch) error
	recordUse    func(repo string, d digest.Digest)
	size         func(ctx context.Context) (store.Size, error)
	repoSize     func(ctx context.Context, repo string) (int64, error)
}

type allowed = func(context.Context, io.ReadSeeker) error

// bg returns the context for calls inside broken stores, which do not block.
func bg() context.Context { return context.Background() }

func (b *broken) Stat(ctx context.Context, repo string, d digest.Digest) (store.Info, error) {
	if b.stat != nil {
		return b.stat(repo, d)
	}
	return b.Mem.Stat(ctx, repo, d)
}

func (b *broken) Open(ctx context.Context, repo string, d digest.Digest) (store.Info, io.ReadSeekCloser, error) {
	if b.open != nil {
		return b.open(repo, d)
	}
	return b.Mem.Open(ctx, repo, d)
}

func (b *broken) Create(ctx context.Context, repo string, want store.Info) (store.Writer, error) {
	if b.create != nil {
		return b.create(repo, want)
	}
	return b.Mem.Create(ctx, repo, want)
}

func (b *broken) Adopt(ctx context.Context, repo string, want store.Info, allowed func(context.Context, io.ReadSeeker) error) error {
	if b.adopt != nil {
		return b.adopt(repo, want, allowed)
	}
	return b.Mem.Adopt(ctx, repo, want, allowed)
}

func (b *broken) Tag(ctx context.Context, repo, tag string) (store.Tag, error) {
	if b.tag != nil {
		return b.tag(repo, tag)
	}
	return b.Mem.Tag(ctx, repo, tag)
}

func (b *broken) SetTag(ctx context.Context, repo, tag string, t store.Tag) error {
	if b.setTag != nil {
		return b.setTag(repo, tag, t)
	}
	return b.Mem.SetTag(ctx, repo, tag, t)
}

func (b *broken) Spool(ctx context.Context, repo string, want store.Info) (store.Spool, error) {
	if b.spool != nil {
		return b.spool(repo, want)
	}
	return b.Mem.Spool(ctx, repo, want)
}

func (b *broken) PutRecord(ctx context.Context, kind, key string, data []byte) error {
	if b.put != nil {
		return b.put(kind, key, data)
	}
	return b.Mem.PutRecord(ctx, kind, key, data)
}

func (b *broken) Record(ctx context.Context, kind, key string) ([]byte, error) {
	if b.record != nil {
		return b.record(kind, key)
	}
	return b.Mem.Record(ctx, kind, key)
}

func (b *broken) DeleteRecord(ctx context.Context, kind, key string) error {
	if b.deleteRecord != nil {
		return b.deleteRecord(kind, key)
	}
	return b.Mem.DeleteRecord(ctx, kind, key)
}

func (b *broken) RecordKeys(ctx context.Context, kind string) iter.Seq2[string, error] {
	if b.recordKeys != nil {
		return b.recordKeys(kind)
	}
	return b.Mem.RecordKeys(ctx, kind)
}

func (b *broken) Delete(ctx context.Context, repo string, d digest.Digest) error {
	if b.delete != nil {
		return b.delete(repo, d)
	}
	return b.Mem.Delete(ctx, repo, d)
}

func (b *broken) DeleteTag(ctx context.Context, repo, tag string) error {
	if b.deleteTag != nil {
		return b.deleteTag(repo, tag)
	}
	return b.Mem.DeleteTag(ctx, repo, tag)
}

func (b *broken) Repositories(ctx context.Context, last string) iter.Seq2[string, error] {
	if b.repositories != nil {
		return b.repositories(last)
	}
	return b.Mem.Repositories(ctx, last)
}

func (b *broken) TagNames(ctx context.Context, repo, last string) iter.Seq2[string, error] {
	if b.tagNames != nil {
		return b.tagNames(repo, last)
	}
	return b.Mem.TagNames(ctx, repo, last)
}

func (b *broken) Referrers(ctx context.Context, repo string, d digest.Digest) iter.Seq2[ocispec.Descriptor, error] {
	if b.referrers != nil {
		return b.referrers(repo, d)
	}
	return b.Mem.Referrers(ctx, repo, d)
}

func (b *broken) Manifests(ctx context.Context, repo string) iter.Seq2[store.Info, error] {
	if b.manifests != nil {
		return b.manifests(ctx, repo)
	}
	return b.Mem.Manifests(ctx, repo)
}

func (b *broken) Blobs(ctx context.Context, repo string) iter.Seq2[store.Info, error] {
	if b.blobs != nil {
		return b.blobs(ctx, repo)
	}
	return b.Mem.Blobs(ctx, repo)
}

func (b *broken) Apply(ctx context.Context, batch *store.Batch) error {
	if b.apply != nil {
		return b.apply(ctx, batch)
	}
	return b.Mem.Apply(ctx, batch)
}

func (b *broken) RecordUse(repo string, d digest.Digest) {
	if b.recordUse != nil {
		b.recordUse(repo, d)
		return
	}
	b.Mem.RecordUse(repo, d)
}

func (b *broken) Size(ctx context.Context) (store.Size, error) {
	if b.size != nil {
		return b.size(ctx)
	}
	return b.Mem.Size(ctx)
}

func (b *broken) RepositorySize(ctx context.Context, repo string) (int64, error) {
	if b.repoSize != nil {
		return b.repoSize(ctx, repo)
	}
	return b.Mem.RepositorySize(ctx, repo)
}

// brokenWriter is a Writer whose methods can be replaced.
type brokenWriter struct {
	store.Writer
	write  func(p []byte) (int, error)
	commit func() error
	close  func() error
}

func (w *brokenWriter) Write(p []byte) (int, error) {
	if w.write != nil {
		return w.write(p)
	}
	return w.Writer.Write(p)
}

func (w *brokenWriter) Commit(ctx context.Context) error {
	if w.commit != nil {
		return w.commit()
	}
	return w.Writer.Commit(ctx)
}

func (w *brokenWriter) Close() error {
	if w.close != nil {
		return w.close()
	}
	return w.Writer.Close()
}

// memSpool is what Mem.Spool returns.
type memSpool interface {
	store.Spool
	store.Checkpointer
}

// brokenSpool is a Spool whose methods can be replaced.
type brokenSpool struct {
	memSpool
	writeAt    func(p []byte, off int64) (int, error)
	open       func() (io.ReadSeekCloser, error)
	commit     func(got store.Info) error
	checkpoint func(p store.Progress) error
	progress   func() store.Progress
	keep       func() error
	close      func() error
}

func (s *brokenSpool) WriteAt(p []byte, off int64) (int, error) {
	if s.writeAt != nil {
		return s.writeAt(p, off)
	}
	return s.memSpool.WriteAt(p, off)
}

func (s *brokenSpool) Open() (io.ReadSeekCloser, error) {
	if s.open != nil {
		return s.open()
	}
	return s.memSpool.Open()
}

func (s *brokenSpool) Commit(ctx context.Context, got store.Info) error {
	if s.commit != nil {
		return s.commit(got)
	}
	return s.memSpool.Commit(ctx, got)
}

func (s *brokenSpool) Checkpoint(p store.Progress) error {
	if s.checkpoint != nil {
		return s.checkpoint(p)
	}
	return s.memSpool.Checkpoint(p)
}

func (s *brokenSpool) Progress() store.Progress {
	if s.progress != nil {
		return s.progress()
	}
	return s.memSpool.Progress()
}

func (s *brokenSpool) Keep() error {
	if s.keep != nil {
		return s.keep()
	}
	return s.memSpool.Keep()
}

func (s *brokenSpool) Close() error {
	if s.close != nil {
		return s.close()
	}
	return s.memSpool.Close()
}

// writers breaks every writer.
func (b *broken) writers(f func(repo string, want store.Info, w *brokenWriter)) {
	b.create = func(repo string, want store.Info) (store.Writer, error) {
		w, err := b.Mem.Create(bg(), repo, want)
		if err != nil {
			return nil, err
		}
		bw := &brokenWriter{Writer: w}
		f(repo, want, bw)
		return bw, nil
	}
}

// spools breaks every spool.
func (b *broken) spools(f func(repo string, want store.Info, s *brokenSpool)) {
	b.spool = func(repo string, want store.Info) (store.Spool, error) {
		s, err := b.Mem.Spool(bg(), repo, want)
		if err != nil {
			return nil, err
		}
		bs := &brokenSpool{memSpool: s.(memSpool)}
		f(repo, want, bs)
		return bs, nil
	}
}

// brokenReader is a reader whose Read and Close can be replaced.
type brokenReader struct {
	io.ReadSeekCloser
	read  func(p []byte) (int, error)
	close func() error
}

func (r *brokenReader) Read(p []byte) (int, error) {
	if r.read != nil {
		return r.read(p)
	}
	return r.ReadSeekCloser.Read(p)
}

func (r *brokenReader) Close() error {
	if r.close != nil {
		return r.close()
	}
	return r.ReadSeekCloser.Close()
}
