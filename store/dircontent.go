package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/durable"
	"github.com/pullthrough/pullthrough/internal/index"
)

func (d *Dir) blobFolder(c content) string { return d.path("blobs", c.alg, c.hex[:2]) }
func (d *Dir) blobPath(c content) string   { return d.path("blobs", c.alg, c.hex[:2], c.hex) }

// update changes the index: see [index.DB.Update]. If there is a change, the uses that are
// noted are written along with it.
func (d *Dir) update(do func(t dirTx) error) error {
	d.inUse()
	var taken map[useOf]time.Time
	err := d.db.Update(func(t *index.Tx) error {
		if err := do(dirTx{t}); err != nil {
			return err
		}
		if taken == nil && t.Changed() {
			taken = d.uses.take()
		}
		dirTx{t}.writeUses(taken)
		return nil
	})
	if taken != nil {
		d.uses.wrote(err)
	}
	return err
}

// view reads the index. What it copies out is valid after that.
func (d *Dir) view(read func(t dirTx) error) error {
	return d.db.View(func(t *index.Tx) error { return read(dirTx{t}) })
}

// inUse notes that the fields of d may be read in the background from now on.
func (d *Dir) inUse() {
	if !d.used.Load() {
		d.used.Store(true)
	}
}

// found is what is known of linked content.
type found struct {
	info Info
	blob blob
	c    content
	data []byte // a copy of the bytes, if they were wanted and are in the index
}

// find looks content up in a repository.
func (d *Dir) find(ctx context.Context, repo string, dgst digest.Digest, read bool) (f found, err error) {
	if err := checkContent(ctx, repo, dgst); err != nil {
		return f, err
	}
	d.inUse()
	f.c, _ = contentOf(dgst)
	err = d.view(func(t dirTx) error {
		var ok bool
		if f.info, ok = t.find(repo, f.c); !ok {
			return ErrNotFound
		}
		if f.blob, ok = t.blob(f.c); !ok {
			return ErrNotFound
		}
		f.info.Size = f.blob.size
		if read && f.blob.number != 0 {
			f.data = bytes.Clone(t.Get(inBytes, numberKey(f.blob.number)))
		}
		return nil
	})
	if err != nil && !errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("store: %s in %s: %w", dgst, repo, storeError(err))
	}
	return f, err
}

// Stat implements [Content].
func (d *Dir) Stat(ctx context.Context, repo string, dgst digest.Digest) (Info, error) {
	f, err := d.find(ctx, repo, dgst, false)
	if err != nil {
		return Info{}, err
	}
	if f.blob.number != 0 {
		return f.info, nil
	}
	size, err := durable.Size(d.blobPath(f.c))
	return withSize(f.info, size, err)
}

// Open implements [Content]. The reader of larger content is an *os.File, that of
// small content an [io.WriterTo].
func (d *Dir) Open(ctx context.Context, repo string, dgst digest.Digest) (Info, io.ReadSeekCloser, error) {
	f, err := d.find(ctx, repo, dgst, true)
	if err != nil {
		return Info{}, nil, err
	}
	r, size, err := d.openBlob(f.c, f.blob, f.data)
	if f.info, err = withSize(f.info, size, err); err != nil {
		if r != nil {
			r.Close()
		}
		return Info{}, nil, err
	}
	return f.info, r, nil
}

// openBlob opens the bytes of content. Those in the index are data; their digest is
// checked. What is not there, or damaged, is [fs.ErrNotExist].
func (d *Dir) openBlob(c content, b blob, data []byte) (io.ReadSeekCloser, int64, error) {
	if b.number == 0 {
		f, size, err := durable.OpenRead(d.blobPath(c))
		if err != nil {
			return nil, 0, err
		}
		return f, size, nil
	}
	if int64(len(data)) != b.size || c.digest.Algorithm().FromBytes(data) != c.digest {
		return nil, 0, fs.ErrNotExist
	}
	r := new(smallReader)
	r.Reset(data)
	return r, b.size, nil
}

// smallReader reads bytes in memory.
type smallReader struct{ bytes.Reader }

func (r *smallReader) Close() error { return nil }

// withSize completes info with the size of its bytes; err is that of finding it. It
// returns ErrNotFound if the bytes are gone or are not as many as the index says.
func withSize(info Info, size int64, err error) (Info, error) {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, durable.ErrIrregular):
		return Info{}, ErrNotFound
	case err != nil:
		return Info{}, fmt.Errorf("store: %w", err)
	case info.Size >= 0 && info.Size != size:
		return Info{}, ErrNotFound
	}
	info.Size = size
	return info, nil
}

// Adopt implements [Content].
func (d *Dir) Adopt(ctx context.Context, repo string, want Info, allowed func(context.Context, io.ReadSeeker) error) error {
	if err := checkInfo(ctx, repo, want); err != nil {
		return err
	}
	c, _ := contentOf(want.Digest)
	have, err := d.openAdoptable(c, want)
	if err != nil {
		return d.wrap("adopt", repo, c, err)
	}
	err = allowed(ctx, have)
	have.Close()
	if err != nil {
		return err
	}
	return d.wrap("adopt", repo, c, d.update(func(t dirTx) error {
		b, err := t.adoptable(c, want) // they may have gone meanwhile
		if err == nil {
			t.link(repo, c, want.Stored(b.size), b)
		}
		return err
	}))
}

// openAdoptable opens bytes that came from want's origin. It returns ErrNotFound if
// there are none, and ErrSize if want.Size is known and differs.
func (d *Dir) openAdoptable(c content, want Info) (io.ReadSeekCloser, error) {
	var b blob
	var data []byte
	err := d.view(func(t dirTx) (err error) {
		if b, err = t.adoptable(c, want); err == nil && b.number != 0 {
			data = bytes.Clone(t.Get(inBytes, numberKey(b.number)))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	r, size, err := d.openBlob(c, b, data)
	if err == nil && size != b.size {
		r.Close()
		err = fs.ErrNotExist
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, durable.ErrIrregular) {
		return nil, ErrNotFound
	}
	return r, err
}

// adoptable returns bytes that came from want's origin.
func (t dirTx) adoptable(c content, want Info) (blob, error) {
	b, ok := t.blob(c)
	if !ok || !b.has(want.Origin()) {
		return b, ErrNotFound
	}
	if want.Size >= 0 && want.Size != b.size {
		return b, sizeError(want.Size, b.size)
	}
	return b, nil
}

// wrap adds to an error what failed.
func (d *Dir) wrap(what, repo string, c content, err error) error {
	if err == nil || err == ErrNotFound {
		return err
	}
	return fmt.Errorf("store: %s %s in %s: %w", what, c.digest, repo, storeError(err))
}
