package buckettest_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/internal/objectstore"
	"github.com/pullthrough/pullthrough/internal/objectstore/buckettest"
	"github.com/pullthrough/pullthrough/store"
)

// mutant is a Bucket that breaks a law. What is not set works.
type mutant struct {
	*buckettest.Mem
	head     func(*buckettest.Mem, context.Context, string) (objectstore.Object, error)
	get      func(*buckettest.Mem, context.Context, string, int64) (objectstore.Object, io.ReadCloser, error)
	put      func(*buckettest.Mem, context.Context, string, []byte, objectstore.Condition) error
	delete   func(*buckettest.Mem, context.Context, string) error
	keys     func([]string) []string // of a list
	list     func(objectstore.Range) objectstore.Range
	begin    func(*buckettest.Mem, context.Context, string)
	complete func(*buckettest.Mem, context.Context, objectstore.Upload, objectstore.Condition) error
	abort    func(context.Context, objectstore.Upload) error
	hidden   bool // unfinished uploads are those below another prefix
}

func (m *mutant) Head(ctx context.Context, key string) (objectstore.Object, error) {
	if m.head != nil {
		return m.head(m.Mem, ctx, key)
	}
	return m.Mem.Head(ctx, key)
}

func (m *mutant) Get(ctx context.Context, key string, offset int64) (objectstore.Object, io.ReadCloser, error) {
	if m.get != nil {
		return m.get(m.Mem, ctx, key, offset)
	}
	return m.Mem.Get(ctx, key, offset)
}

func (m *mutant) Put(ctx context.Context, key string, data []byte, cond objectstore.Condition) error {
	if m.put != nil {
		return m.put(m.Mem, ctx, key, data, cond)
	}
	return m.Mem.Put(ctx, key, data, cond)
}

func (m *mutant) Delete(ctx context.Context, key string) error {
	if m.delete != nil {
		return m.delete(m.Mem, ctx, key)
	}
	return m.Mem.Delete(ctx, key)
}

func (m *mutant) List(ctx context.Context, r objectstore.Range) iter.Seq2[string, error] {
	if m.list != nil {
		r = m.list(r)
	}
	if m.keys == nil {
		return m.Mem.List(ctx, r)
	}
	return func(yield func(string, error) bool) {
		var keys []string
		for key, err := range m.Mem.List(ctx, r) {
			if err != nil {
				yield("", err)
				return
			}
			keys = append(keys, key)
		}
		for _, key := range m.keys(keys) {
			if !yield(key, nil) {
				return
			}
		}
	}
}

func (m *mutant) Begin(ctx context.Context, key string) (objectstore.Upload, error) {
	u, err := m.Mem.Begin(ctx, key)
	if m.begin != nil && err == nil {
		m.begin(m.Mem, ctx, key)
	}
	return &mutantUpload{u, m}, err
}

func (m *mutant) Unfinished(ctx context.Context, prefix string) iter.Seq2[objectstore.Unfinished, error] {
	if m.hidden {
		prefix = prefix[:0]
	}
	return m.Mem.Unfinished(ctx, prefix)
}

type mutantUpload struct {
	objectstore.Upload
	m *mutant
}

func (u *mutantUpload) Complete(ctx context.Context, cond objectstore.Condition) error {
	if u.m.complete != nil {
		return u.m.complete(u.m.Mem, ctx, u.Upload, cond)
	}
	return u.Upload.Complete(ctx, cond)
}

func (u *mutantUpload) Abort(ctx context.Context) error {
	if u.m.abort != nil {
		return u.m.abort(ctx, u.Upload)
	}
	return u.Upload.Abort(ctx)
}

type mem = buckettest.Mem

// unless returns a Put that ignores the conditions for which ignored holds.
func unless(ignored func(objectstore.Condition) bool) func(*mem, context.Context, string, []byte, objectstore.Condition) error {
	return func(m *mem, ctx context.Context, key string, data []byte, cond objectstore.Condition) error {
		if ignored(cond) {
			cond = objectstore.Always
		}
		return m.Put(ctx, key, data, cond)
	}
}

func absent(c objectstore.Condition) bool { return c == objectstore.IfAbsent }

// looks checks a condition first and writes then.
func looks(m *mem, ctx context.Context, key string, data []byte, cond objectstore.Condition) error {
	o, err := m.Head(ctx, key)
	there := err == nil
	if cond == objectstore.IfAbsent && there || cond != objectstore.IfAbsent && cond != objectstore.Always && (!there || objectstore.IfMatch(o.ETag) != cond) {
		return m.Put(ctx, key, data, cond)
	}
	for range 100 {
		runtime.Gosched()
	}
	return m.Put(ctx, key, data, objectstore.Always)
}

// mutants are by the name of a check that has to find them.
var mutants = map[string]map[string]mutant{
	"object/round trip": {
		"Head forgets the size": {head: func(m *mem, ctx context.Context, key string) (objectstore.Object, error) {
			o, err := m.Head(ctx, key)
			o.Size = 0
			return o, err
		}},
	},
	"object/offset": {
		"Get begins at the start": {get: func(m *mem, ctx context.Context, key string, _ int64) (objectstore.Object, io.ReadCloser, error) {
			return m.Get(ctx, key, 0)
		}},
		"Get tells the size of the part": {get: func(m *mem, ctx context.Context, key string, offset int64) (objectstore.Object, io.ReadCloser, error) {
			o, body, err := m.Get(ctx, key, offset)
			o.Size -= offset
			return o, body, err
		}},
	},
	"object/missing": {
		"another error": {head: func(m *mem, ctx context.Context, key string) (objectstore.Object, error) {
			o, err := m.Head(ctx, key)
			if err != nil {
				err = errors.New(err.Error())
			}
			return o, err
		}},
		"Delete of nothing fails": {delete: func(m *mem, ctx context.Context, key string) error {
			if _, err := m.Head(ctx, key); err != nil {
				return err
			}
			return m.Delete(ctx, key)
		}},
		"Delete takes a folder": {delete: func(m *mem, ctx context.Context, key string) error {
			for _, k := range m.Keys() {
				if strings.HasPrefix(k, key+"/") {
					_ = m.Delete(ctx, k)
				}
			}
			return m.Delete(ctx, key)
		}},
	},
	"object/delete": {
		"Delete does nothing": {delete: func(*mem, context.Context, string) error { return nil }},
	},
	"object/keys": {
		"case does not count": {put: func(m *mem, ctx context.Context, key string, data []byte, cond objectstore.Condition) error {
			return m.Put(ctx, strings.ToLower(key), data, cond)
		}},
	},
	"object/errors": {
		"errors without a name": {head: func(m *mem, ctx context.Context, key string) (objectstore.Object, error) {
			o, err := m.Head(ctx, key)
			if errors.Is(err, store.ErrNotFound) {
				err = store.ErrNotFound
			}
			return o, err
		}},
	},
	"object/context": {
		"Put goes on": {put: func(m *mem, ctx context.Context, key string, data []byte, cond objectstore.Condition) error {
			return m.Put(context.WithoutCancel(ctx), key, data, cond)
		}},
	},
	"object/body and context": {
		"the body goes on": {get: func(m *mem, ctx context.Context, key string, offset int64) (objectstore.Object, io.ReadCloser, error) {
			return m.Get(context.WithoutCancel(ctx), key, offset)
		}},
	},
	"put/absent": {"IfAbsent is ignored": {put: unless(absent)}},
	"put/match": {
		"ETags are ignored": {put: unless(func(c objectstore.Condition) bool { return !absent(c) })},
		"a missing object is not found": {put: func(m *mem, ctx context.Context, key string, data []byte, cond objectstore.Condition) error {
			if _, err := m.Head(ctx, key); err != nil && !absent(cond) && cond != objectstore.Always {
				return err
			}
			return m.Put(ctx, key, data, cond)
		}},
	},
	"put/race of IfAbsent": {"look first, write then": {put: looks}},
	"put/race of ETags":    {"look first, write then": {put: looks}},
	"list/order": {
		"folders first": {keys: func(keys []string) []string {
			slices.SortFunc(keys, func(a, b string) int {
				return strings.Compare(strings.ReplaceAll(a, "/", "\x00"), strings.ReplaceAll(b, "/", "\x00"))
			})
			return keys
		}},
		"a folder beside": {list: func(r objectstore.Range) objectstore.Range { r.Prefix = strings.TrimSuffix(r.Prefix, "/"); return r }},
	},
	"list/after": {
		"one too late": {keys: func(keys []string) []string { return keys[min(1, len(keys)):] }, list: func(r objectstore.Range) objectstore.Range { return r }},
	},
	"list/delimiter": {
		"nothing is folded": {list: func(r objectstore.Range) objectstore.Range { r.Delimiter = ""; return r }},
		"folded at slashes": {list: func(r objectstore.Range) objectstore.Range {
			if r.Delimiter != "" {
				r.Delimiter = "/"
			}
			return r
		}},
	},
	"list/pages": {"one page": {keys: func(keys []string) []string { return keys[:min(1000, len(keys))] }}},
	"upload/round trip": {
		"visible at once": {begin: func(m *mem, ctx context.Context, key string) { _ = m.Put(ctx, key, nil, objectstore.IfAbsent) },
			complete: func(_ *mem, ctx context.Context, u objectstore.Upload, _ objectstore.Condition) error {
				return u.Complete(ctx, objectstore.Always)
			}},
	},
	"upload/abort":      {"Abort does nothing": {abort: func(context.Context, objectstore.Upload) error { return nil }}},
	"upload/race":       {"Complete without condition": {complete: unconditional}},
	"upload/conditions": {"Complete without condition": {complete: unconditional}},
	"upload/beside Put": {"Complete without condition": {complete: unconditional}},
	"upload/unfinished": {"everybody's uploads": {hidden: true}},
}

func unconditional(_ *mem, ctx context.Context, u objectstore.Upload, _ objectstore.Condition) error {
	return u.Complete(ctx, objectstore.Always)
}

// TestMutants: each check finds a bucket that breaks its law.
func TestMutants(t *testing.T) {
	for _, c := range buckettest.Checks() {
		if len(mutants[c.Name]) == 0 {
			t.Errorf("no mutant breaks the law of %s", c.Name)
		}
		for name, m := range mutants[c.Name] {
			found := false
			for range 20 { // a race need not be lost at once
				m.Mem = new(mem)
				if found = c.Func(t.Context(), &m) != nil; found {
					break
				}
			}
			if !found {
				t.Errorf("%s does not find: %s", c.Name, name)
			}
		}
	}
	for name := range mutants {
		if !slices.ContainsFunc(buckettest.Checks(), func(c buckettest.Check) bool { return c.Name == name }) {
			t.Errorf("there is no check %s", name)
		}
	}
}
