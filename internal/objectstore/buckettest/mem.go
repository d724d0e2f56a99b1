package buckettest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pullthrough/pullthrough/internal/objectstore"
	"github.com/pullthrough/pullthrough/store"
)

// Mem is a Bucket in memory. The zero value is empty; it must not be copied.
type Mem struct {
	// Before, if it is set, is called at the beginning of every request with the name of
	// the method and the key or prefix. The request fails with its error. It may use the
	// Mem.
	Before func(ctx context.Context, method, key string) error

	mu      sync.Mutex
	objects map[string]memObject
	uploads map[string]*memUpload // by ID
	n       int                   // versions and uploads that there ever were
}

type memObject struct {
	data []byte
	etag string
}

func (o memObject) describe() objectstore.Object {
	return objectstore.Object{Size: int64(len(o.data)), ETag: o.etag}
}

// String implements [objectstore.Bucket].
func (m *Mem) String() string { return "mem://bucket" }

// lock begins a request. If it returns no error, m.mu is held.
func (m *Mem) lock(ctx context.Context, method, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.Before != nil {
		if err := m.Before(ctx, method, key); err != nil {
			return m.fail(key, err)
		}
	}
	m.mu.Lock()
	return nil
}

func (m *Mem) fail(key string, err error) error { return fmt.Errorf("%s/%s: %w", m, key, err) }

// next returns a name that there was never before. m.mu is held.
func (m *Mem) next() string {
	m.n++
	return strconv.Itoa(m.n)
}

// Head implements [objectstore.Bucket].
func (m *Mem) Head(ctx context.Context, key string) (objectstore.Object, error) {
	if err := m.lock(ctx, "Head", key); err != nil {
		return objectstore.Object{}, err
	}
	defer m.mu.Unlock()
	o, ok := m.objects[key]
	if !ok {
		return objectstore.Object{}, m.fail(key, store.ErrNotFound)
	}
	return o.describe(), nil
}

// Get implements [objectstore.Bucket].
func (m *Mem) Get(ctx context.Context, key string, offset int64) (objectstore.Object, io.ReadCloser, error) {
	if err := m.lock(ctx, "Get", key); err != nil {
		return objectstore.Object{}, nil, err
	}
	defer m.mu.Unlock()
	o, ok := m.objects[key]
	if !ok {
		return objectstore.Object{}, nil, m.fail(key, store.ErrNotFound)
	}
	if offset > 0 && offset >= int64(len(o.data)) {
		return objectstore.Object{}, nil, m.fail(key, fmt.Errorf("offset %d of %d", offset, len(o.data)))
	}
	return o.describe(), &memBody{ctx, bytes.NewReader(o.data[offset:])}, nil
}

type memBody struct {
	ctx context.Context
	r   io.Reader
}

func (b *memBody) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	return b.r.Read(p)
}

func (b *memBody) Close() error { return nil }

// Put implements [objectstore.Bucket].
func (m *Mem) Put(ctx context.Context, key string, data []byte, cond objectstore.Condition) error {
	if err := m.lock(ctx, "Put", key); err != nil {
		return err
	}
	defer m.mu.Unlock()
	return m.put(key, bytes.Clone(data), cond)
}

// put writes an object. m.mu is held.
func (m *Mem) put(key string, data []byte, cond objectstore.Condition) error {
	if key == "" || len(key) > objectstore.MaxKey {
		return m.fail(key, fmt.Errorf("a key of %d bytes", len(key)))
	}
	o, there := m.objects[key]
	if cond == objectstore.IfAbsent && there || cond != objectstore.IfAbsent && cond != objectstore.Always && objectstore.IfMatch(o.etag) != cond {
		return m.fail(key, objectstore.ErrChanged)
	}
	if m.objects == nil {
		m.objects = make(map[string]memObject)
	}
	m.objects[key] = memObject{data, `"` + m.next() + `"`}
	return nil
}

// Delete implements [objectstore.Bucket].
func (m *Mem) Delete(ctx context.Context, key string) error {
	if err := m.lock(ctx, "Delete", key); err != nil {
		return err
	}
	defer m.mu.Unlock()
	delete(m.objects, key)
	return nil
}

// Keys returns the keys of all objects, in order.
func (m *Mem) Keys() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.objects))
}

// List implements [objectstore.Bucket].
func (m *Mem) List(ctx context.Context, r objectstore.Range) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		last := ""
		request := func() bool {
			err := m.lock(ctx, "List", r.Prefix)
			if err != nil {
				yield("", err)
				return false
			}
			m.mu.Unlock()
			return true
		}
		if !request() {
			return
		}
		for i, key := range m.Keys() {
			if i%100 == 99 && !request() { // the next page
				return
			}
			rest, below := strings.CutPrefix(key, r.Prefix)
			if !below || key <= r.After {
				continue
			}
			if group, _, folded := strings.Cut(rest, r.Delimiter); folded && r.Delimiter != "" {
				key = r.Prefix + group + r.Delimiter
			}
			if key != last && !yield(key, nil) {
				return
			}
			last = key
		}
	}
}

type memUpload struct {
	m    *Mem
	key  string
	id   string
	time time.Time
	data []byte
}

// Begin implements [objectstore.Bucket].
func (m *Mem) Begin(ctx context.Context, key string) (objectstore.Upload, error) {
	if err := m.lock(ctx, "Begin", key); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	u := &memUpload{m: m, key: key, id: m.next(), time: time.Now()}
	if m.uploads == nil {
		m.uploads = make(map[string]*memUpload)
	}
	m.uploads[u.id] = u
	return u, nil
}

// Part implements [objectstore.Upload].
func (u *memUpload) Part(ctx context.Context, data []byte) error {
	if err := u.m.lock(ctx, "Part", u.key); err != nil {
		return err
	}
	defer u.m.mu.Unlock()
	if u.m.uploads[u.id] == nil || len(data) == 0 || len(data) > objectstore.PartSize || len(u.data)%objectstore.PartSize != 0 {
		return u.m.fail(u.key, fmt.Errorf("a part of %d bytes after %d", len(data), len(u.data)))
	}
	u.data = append(u.data, data...)
	return nil
}

// Complete implements [objectstore.Upload].
func (u *memUpload) Complete(ctx context.Context, cond objectstore.Condition) error {
	if err := u.m.lock(ctx, "Complete", u.key); err != nil {
		return err
	}
	defer u.m.mu.Unlock()
	if u.m.uploads[u.id] == nil {
		return u.m.fail(u.key, objectstore.ErrChanged)
	}
	if err := u.m.put(u.key, u.data, cond); err != nil {
		return err
	}
	delete(u.m.uploads, u.id)
	return nil
}

// Abort implements [objectstore.Upload].
func (u *memUpload) Abort(ctx context.Context) error {
	return u.m.Abort(ctx, objectstore.Unfinished{Key: u.key, ID: u.id})
}

// Unfinished implements [objectstore.Bucket].
func (m *Mem) Unfinished(ctx context.Context, prefix string) iter.Seq2[objectstore.Unfinished, error] {
	return func(yield func(objectstore.Unfinished, error) bool) {
		if err := m.lock(ctx, "Unfinished", prefix); err != nil {
			yield(objectstore.Unfinished{}, err)
			return
		}
		var all []objectstore.Unfinished
		for _, u := range m.uploads {
			if strings.HasPrefix(u.key, prefix) {
				all = append(all, objectstore.Unfinished{Key: u.key, ID: u.id, Begun: u.time})
			}
		}
		m.mu.Unlock()
		for _, u := range all {
			if !yield(u, nil) {
				return
			}
		}
	}
}

// Abort implements [objectstore.Bucket].
func (m *Mem) Abort(ctx context.Context, u objectstore.Unfinished) error {
	if err := m.lock(ctx, "Abort", u.Key); err != nil {
		return err
	}
	defer m.mu.Unlock()
	delete(m.uploads, u.ID)
	return nil
}
