package store

import (
	"context"
	"io"
	"maps"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// Mem keeps everything in memory, for tests and for caches that may forget. It
// has every optional ability; what [Checkpointer.Keep] leaves lasts as long as the Mem. The zero value works; it must not be copied. It is safe
// for concurrent use.
//
// Mem never holds more than MaxBytes. Memory is counted before it is allocated,
// in pieces of 256 KiB at most, so content that is written far beyond its start
// counts the pieces that were written and not what lies between. Content that is
// announced as larger than what is free is refused at once.
//
// Nothing that was committed is evicted: a manifest is there only together with
// everything it names, so one piece cannot go alone. A Mem that is full drops kept
// spools if that makes enough room, and otherwise returns [ErrFull]. What it has
// can still be read.
type Mem struct {
	// MaxBytes bounds the bytes of content, spools and records, with an allowance
	// for each of them and for each link and tag with its annotations. If zero, it
	// is 1 GiB. If negative, there is no limit.
	MaxBytes int64

	mu      sync.RWMutex
	used    int64
	blobs   map[digest.Digest]*memBlob
	repos   map[string]*memRepo
	spools  map[spoolKey]*memSpool // those that are open
	kept    map[spoolKey]*memKept
	records map[string]map[string][]byte
}

// memBlob is content that at least one repository links.
type memBlob struct {
	data    *chunks
	origins map[string]int // links by origin
}

type memRepo struct {
	content map[digest.Digest]Info // with the Use of manifests
	tags    map[string]Tag
	size    int64 // of the content
}

// repo returns a repository. If it is not there and create is false, the result is
// nil. m.mu is held.
func (m *Mem) repo(name string, create bool) *memRepo {
	r := m.repos[name]
	if r == nil && create {
		r = &memRepo{content: make(map[digest.Digest]Info), tags: make(map[string]Tag)}
		if m.repos == nil {
			m.repos = make(map[string]*memRepo)
		}
		m.repos[name] = r
	}
	return r
}

// prune forgets a repository that has nothing. m.mu is held.
func (m *Mem) prune(name string) {
	if r := m.repos[name]; r != nil && len(r.content) == 0 && len(r.tags) == 0 {
		delete(m.repos, name)
	}
}

// Stat implements [Content].
func (m *Mem) Stat(ctx context.Context, repo string, d digest.Digest) (Info, error) {
	info, _, err := m.find(ctx, repo, d)
	return info, err
}

// Open implements [Content]. The reader is an [io.WriterTo].
func (m *Mem) Open(ctx context.Context, repo string, d digest.Digest) (Info, io.ReadSeekCloser, error) {
	info, data, err := m.find(ctx, repo, d)
	if err != nil {
		return Info{}, nil, err
	}
	return info, &chunkReader{c: data}, nil
}

func (m *Mem) find(ctx context.Context, repo string, d digest.Digest) (Info, *chunks, error) {
	if err := checkContent(ctx, repo, d); err != nil {
		return Info{}, nil, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	if r := m.repos[repo]; r != nil {
		if info, ok := r.content[d]; ok {
			info.Annotations, info.Use = maps.Clone(info.Annotations), Use{}
			return info, m.blobs[d].data, nil
		}
	}
	return Info{}, nil, ErrNotFound
}

// Create implements [Content].
func (m *Mem) Create(ctx context.Context, repo string, want Info) (Writer, error) {
	if err := checkInfo(ctx, repo, want); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	data, err := m.begin(want.Size)
	if err != nil {
		return nil, err
	}
	return &memWriter{m: m, repo: repo, want: want, data: data}, nil
}

type memWriter struct {
	m    *Mem
	repo string
	want Info
	data *chunks // nil once it is committed or closed
	n    int64
}

func (w *memWriter) Write(p []byte) (int, error) {
	if w.data == nil {
		return 0, errClosed
	}
	n, err := w.data.WriteAt(p, w.n)
	w.n += int64(n)
	return n, err
}

func (w *memWriter) Commit(ctx context.Context) error {
	if w.data == nil {
		return errClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if w.want.Size >= 0 && w.n != w.want.Size {
		return sizeError(w.want.Size, w.n)
	}
	if err := w.m.commit(w.repo, w.want, w.data); err != nil {
		return err
	}
	w.data = nil
	return nil
}

func (w *memWriter) Close() error {
	if w.data != nil {
		w.m.release(w.data)
		w.data = nil
	}
	return nil
}

// commit links data in repo, or the bytes of that digest that are there already.
func (m *Mem) commit(repo string, want Info, data *chunks) error {
	data.seal()
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.keep(repo, want.Stored(data.size), data)
}

// keep links data, whose memory is paid, or the bytes of that digest that are there
// already. m.mu is held.
func (m *Mem) keep(repo string, info Info, data *chunks) error {
	b := m.blobs[info.Digest]
	if b == nil {
		b = &memBlob{data: data, origins: make(map[string]int)}
	}
	if err := m.link(repo, info, b); err != nil {
		return err
	}
	if b.data != data {
		return m.grow(-data.paid)
	}
	return nil
}

// link links b in repo. m.mu is held.
func (m *Mem) link(repo string, info Info, b *memBlob) error {
	r := m.repos[repo]
	var old Info
	var again bool
	if r != nil {
		old, again = r.content[info.Digest]
	}
	if again && old.IsManifest() && !info.IsManifest() {
		return nil // once a manifest, always one
	}
	need := memCost(repo, info.Descriptor, info.Source, string(info.Subject))
	if again {
		need -= memCost(repo, old.Descriptor, old.Source, string(old.Subject))
	}
	if err := m.grow(need); err != nil {
		return err
	}
	r = m.repo(repo, true)
	if !again {
		r.size += b.data.size
	}
	if info.IsManifest() {
		if info.Use = old.Use; info.Use.Hours == 0 {
			info.Use = info.Use.add(time.Now())
		}
	}
	r.content[info.Digest] = info
	b.origins[info.Origin()]++
	if again {
		b.drop(old.Origin())
	}
	if m.blobs == nil {
		m.blobs = make(map[digest.Digest]*memBlob)
	}
	m.blobs[info.Digest] = b
	return nil
}

func (b *memBlob) drop(origin string) {
	if b.origins[origin]--; b.origins[origin] <= 0 {
		delete(b.origins, origin)
	}
}

// Adopt implements [Content].
func (m *Mem) Adopt(ctx context.Context, repo string, want Info, allowed func(context.Context, io.ReadSeeker) error) error {
	if err := checkInfo(ctx, repo, want); err != nil {
		return err
	}
	m.mu.RLock()
	b, err := m.adoptable(want)
	m.mu.RUnlock()
	if err != nil {
		return err
	}
	if err := allowed(ctx, &chunkReader{c: b.data}); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	b, err = m.adoptable(want) // it may have gone meanwhile
	if err != nil {
		return err
	}
	return m.link(repo, want.Stored(b.data.size), b)
}

func (m *Mem) adoptable(want Info) (*memBlob, error) {
	b := m.blobs[want.Digest]
	if b == nil || b.origins[want.Origin()] == 0 {
		return nil, ErrNotFound
	}
	if want.Size >= 0 && want.Size != b.data.size {
		return nil, sizeError(want.Size, b.data.size)
	}
	return b, nil
}

// Tag implements [Tags].
func (m *Mem) Tag(ctx context.Context, repo, tag string) (Tag, error) {
	if err := checkTagged(ctx, repo, tag); err != nil {
		return Tag{}, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	if r := m.repos[repo]; r != nil {
		if t, ok := r.tags[tag]; ok {
			t.Annotations = maps.Clone(t.Annotations)
			return t, nil
		}
	}
	return Tag{}, ErrNotFound
}

// SetTag implements [Tags].
func (m *Mem) SetTag(ctx context.Context, repo, tag string, t Tag) error {
	if err := checkTagged(ctx, repo, tag); err != nil {
		return err
	}
	if err := CheckTagValue(t); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	_, err := m.setTag(repo, tag, t.Stored())
	return err
}

// setTag sets a tag unless the stored one stays. m.mu is held.
func (m *Mem) setTag(repo, tag string, t Tag) (stays bool, err error) {
	var old Tag
	var again bool
	if r := m.repos[repo]; r != nil {
		old, again = r.tags[tag]
	}
	need := memCost(repo, t.Descriptor, t.Source, tag)
	if again {
		if replaces, err := t.Replaces(old); !replaces {
			return true, err
		}
		need -= memCost(repo, old.Descriptor, old.Source, tag)
	}
	if err := m.grow(need); err != nil {
		return false, err
	}
	m.repo(repo, true).tags[tag] = t
	return false, nil
}

var (
	_ Store          = (*Mem)(nil)
	_ Spooler        = (*Mem)(nil)
	_ Batcher        = (*Mem)(nil)
	_ Records        = (*Mem)(nil)
	_ Deleter        = (*Mem)(nil)
	_ Lister         = (*Mem)(nil)
	_ ManifestLister = (*Mem)(nil)
	_ BlobLister     = (*Mem)(nil)
	_ UseRecorder    = (*Mem)(nil)
	_ Sizer          = (*Mem)(nil)
)
