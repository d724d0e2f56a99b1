package storetest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/pullthrough/pullthrough/store"
)

func adoptMutants() []mutant {
	return []mutant{
		{"Adopt keeps the giver's source", func(b *broken) {
			sources := new(sync.Map)
			b.writers(func(_ string, want store.Info, _ *brokenWriter) { sources.Store(want.Digest, want.Source) })
			b.adopt = func(repo string, want store.Info, allowed allowed) error {
				if source, ok := sources.Load(want.Digest); ok && (store.Info{Source: source.(string)}).Origin() == want.Origin() {
					want.Source = source.(string)
				}
				return b.Mem.Adopt(bg(), repo, want, allowed)
			}
		}},
		{"Adopt does not look at the origin", func(b *broken) {
			sources := new(sync.Map)
			b.writers(func(_ string, want store.Info, _ *brokenWriter) { sources.Store(want.Digest, want.Source) })
			b.adopt = func(repo string, want store.Info, allowed allowed) error {
				if source, ok := sources.Load(want.Digest); ok {
					want.Source = source.(string)
				}
				return b.Mem.Adopt(bg(), repo, want, allowed)
			}
		}},
		{"Adopt asks first", func(b *broken) {
			b.adopt = func(repo string, want store.Info, allowed allowed) error {
				if err := allowed(bg(), strings.NewReader("")); err != nil {
					return err
				}
				return b.Mem.Adopt(bg(), repo, want, always)
			}
		}},
		{"Adopt does not ask", func(b *broken) {
			b.adopt = func(repo string, want store.Info, _ allowed) error {
				return b.Mem.Adopt(bg(), repo, want, always)
			}
		}},
		{"Adopt wraps the refusal", func(b *broken) {
			b.adopt = func(repo string, want store.Info, allowed allowed) error {
				if err := b.Mem.Adopt(bg(), repo, want, allowed); err != nil {
					return fmt.Errorf("adopt: %w", err)
				}
				return nil
			}
		}},
		{"Adopt shows other bytes", func(b *broken) {
			b.adopt = func(repo string, want store.Info, allowed allowed) error {
				return b.Mem.Adopt(bg(), repo, want, func(ctx context.Context, have io.ReadSeeker) error {
					size, err := have.Seek(0, io.SeekEnd)
					if err != nil {
						return err
					}
					return allowed(ctx, strings.NewReader(strings.Repeat("x", int(size))))
				})
			}
		}},
		{"Adopt holds a lock", func(b *broken) {
			var mu sync.Mutex
			b.create = func(repo string, want store.Info) (store.Writer, error) {
				mu.Lock()
				defer mu.Unlock()
				return b.Mem.Create(bg(), repo, want)
			}
			b.adopt = func(repo string, want store.Info, allowed allowed) error {
				mu.Lock()
				defer mu.Unlock()
				return b.Mem.Adopt(bg(), repo, want, allowed)
			}
		}},
		{"Adopt brings deleted content back to all", func(b *broken) {
			var mu sync.Mutex
			type gone struct {
				repo string
				info store.Info
				data []byte
			}
			deleted := make(map[digest.Digest]gone)
			b.delete = func(repo string, d digest.Digest) error {
				mu.Lock()
				defer mu.Unlock()
				if info, r, err := b.Mem.Open(bg(), repo, d); err == nil {
					data := make([]byte, info.Size)
					_, _ = r.Read(data)
					deleted[d] = gone{repo, info, data}
				}
				return b.Mem.Delete(bg(), repo, d)
			}
			b.adopt = func(repo string, want store.Info, allowed allowed) error {
				mu.Lock()
				defer mu.Unlock()
				if g, ok := deleted[want.Digest]; ok {
					commit(b.Mem, g.repo, g.info, g.data)
				}
				return b.Mem.Adopt(bg(), repo, want, allowed)
			}
		}},
	}
}

func tagMutants() []mutant {
	force := func(b *broken, repo, tag string, t store.Tag) error {
		_ = b.Mem.DeleteTag(bg(), repo, tag)
		return b.Mem.SetTag(bg(), repo, tag, t)
	}
	return []mutant{
		{"keeps only seconds", func(b *broken) {
			b.setTag = func(repo, tag string, t store.Tag) error {
				t.Asked = t.Asked.Truncate(time.Second)
				return b.Mem.SetTag(bg(), repo, tag, t)
			}
		}},
		{"folds the case of tags", func(b *broken) {
			b.setTag = func(repo, tag string, t store.Tag) error {
				return force(b, repo, strings.ToLower(tag), t)
			}
			b.tag = func(repo, tag string) (store.Tag, error) { return b.Mem.Tag(bg(), repo, strings.ToLower(tag)) }
		}},
		{"takes stale answers", func(b *broken) {
			b.setTag = func(repo, tag string, t store.Tag) error { return force(b, repo, tag, t) }
		}},
		{"refuses the same answer", func(b *broken) {
			b.setTag = func(repo, tag string, t store.Tag) error {
				old, err := b.Mem.Tag(bg(), repo, tag)
				if err == nil && old.Source == t.Source && !t.Asked.After(old.Asked) {
					return store.ErrStale
				}
				return b.Mem.SetTag(bg(), repo, tag, t)
			}
		}},
		{"compares with another source", func(b *broken) {
			b.setTag = func(repo, tag string, t store.Tag) error {
				old, err := b.Mem.Tag(bg(), repo, tag)
				if err == nil && old.Asked.After(t.Asked) {
					return store.ErrStale
				}
				return b.Mem.SetTag(bg(), repo, tag, t)
			}
		}},
		{"mixes two answers", func(b *broken) {
			b.setTag = func(repo, tag string, t store.Tag) error {
				err := b.Mem.SetTag(bg(), repo, tag, t)
				if errors.Is(err, store.ErrStale) {
					old, _ := b.Mem.Tag(bg(), repo, tag)
					old.Descriptor = t.Descriptor
					_ = force(b, repo, tag, old)
				}
				return err
			}
		}},
	}
}

func always(context.Context, io.ReadSeeker) error { return nil }
