package cache

import (
	"bytes"
	"io"
	"strconv"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/origin"
)

// smallBlob is the size up to which a stored blob is kept in memory, and is written at
// once, which is less work than to look it up and let the kernel send it.
const smallBlob = 16 << 10

// memoryBlob is a stored blob in memory. It never changes.
type memoryBlob struct {
	data   []byte
	from   string
	era    int64 // of deletions, when it was read
	header blobHeader
}

// blobHeader holds the header values of a blob, so that they are made only once.
type blobHeader struct{ length, digest, etag []string }

func newBlobHeader(digest string, size int64) blobHeader {
	texts := []string{strconv.FormatInt(size, 10), digest, `"` + digest + `"`}
	return blobHeader{texts[:1:1], texts[1:2:2], texts[2:]}
}

// header returns the header values of the blob of an answer. Without a size, that of the
// length is of no use.
func (a *blobAnswer) header(digest string) blobHeader {
	if m, ok := a.file.(*memoryReader); ok {
		return m.blob.header
	}
	return newBlobHeader(digest, a.size)
}

// memoryReader reads a memoryBlob.
type memoryReader struct {
	bytes.Reader
	blob *memoryBlob
}

func newMemoryReader(b *memoryBlob) *memoryReader {
	r := &memoryReader{blob: b}
	r.Reset(b.data)
	return r
}

// Close does nothing.
func (r *memoryReader) Close() error { return nil }

// openSmall opens a blob that is in memory.
func (l *local) openSmall(r origin.Repo, d digest.Digest) (*memoryReader, bool) {
	b, ok := l.small.Get(keyOf(r, d))
	if !ok || b.era != l.deleted.era.Load() || !r.MayServe(b.from) {
		return nil, false
	}
	return newMemoryReader(b), true
}

// keepSmall reads a small blob that was opened when era was that of the deletions, keeps
// it in memory, and returns a reader of that in place of file, which it closes. If it
// cannot be read, it returns file.
func (l *local) keepSmall(r origin.Repo, d digest.Digest, from string, era, size int64, file io.ReadSeekCloser) io.ReadSeekCloser {
	data := make([]byte, size)
	if _, err := io.ReadFull(file, data); err != nil {
		_, _ = file.Seek(0, io.SeekStart)
		return file
	}
	_ = file.Close()
	b := &memoryBlob{data, from, era, newBlobHeader(d.String(), size)}
	l.small.Put(keyOf(r, d), b, size+512)
	return newMemoryReader(b)
}
