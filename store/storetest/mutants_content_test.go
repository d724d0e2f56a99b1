package storetest_test

import (
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/pullthrough/pullthrough/store"
)

func contentMutants() []mutant {
	return []mutant{
		{"flips a bit", func(b *broken) {
			b.writers(func(_ string, _ store.Info, w *brokenWriter) {
				w.write = func(p []byte) (int, error) {
					q := append([]byte(nil), p...)
					q[len(q)/2] ^= 1
					return w.Writer.Write(q)
				}
			})
		}},
		{"keeps the media type of blobs", func(b *broken) {
			types := new(sync.Map)
			b.writers(func(_ string, want store.Info, _ *brokenWriter) { types.Store(want.Digest, want.MediaType) })
			b.stat = func(repo string, d digest.Digest) (store.Info, error) {
				info, err := b.Mem.Stat(bg(), repo, d)
				if mediaType, ok := types.Load(d); ok && err == nil {
					info.MediaType = mediaType.(string)
				}
				return info, err
			}
		}},
		{"does not learn an unknown size", func(b *broken) {
			sizes := new(sync.Map)
			b.writers(func(_ string, want store.Info, _ *brokenWriter) { sizes.Store(want.Digest, want.Size) })
			b.stat = func(repo string, d digest.Digest) (store.Info, error) {
				info, err := b.Mem.Stat(bg(), repo, d)
				if size, ok := sizes.Load(d); ok && err == nil {
					info.Size = size.(int64)
				}
				return info, err
			}
		}},
		{"shows what is not committed", func(b *broken) {
			b.writers(func(repo string, want store.Info, w *brokenWriter) {
				var all []byte
				w.write = func(p []byte) (int, error) {
					if all = append(all, p...); int64(len(all)) == want.Size {
						commit(b.Mem, repo, want, all)
					}
					return w.Writer.Write(p)
				}
			})
		}},
		{"commits on Close", func(b *broken) {
			b.writers(func(_ string, _ store.Info, w *brokenWriter) {
				w.close = func() error { _ = w.Writer.Commit(bg()); return w.Writer.Close() }
			})
		}},
		{"does not compare the size", func(b *broken) {
			b.create = func(repo string, want store.Info) (store.Writer, error) {
				want.Size = -1
				return b.Mem.Create(bg(), repo, want)
			}
		}},
		{"looks a digest up everywhere", func(b *broken) {
			repos := new(sync.Map)
			b.writers(func(repo string, want store.Info, _ *brokenWriter) { repos.Store(want.Digest, repo) })
			b.open = func(repo string, d digest.Digest) (store.Info, io.ReadSeekCloser, error) {
				info, r, err := b.Mem.Open(bg(), repo, d)
				if other, ok := repos.Load(d); ok && errors.Is(err, store.ErrNotFound) {
					return b.Mem.Open(bg(), other.(string), d)
				}
				return info, r, err
			}
		}},
		{"shows what the repository above has", func(b *broken) {
			b.stat = func(repo string, d digest.Digest) (store.Info, error) {
				info, err := b.Mem.Stat(bg(), repo, d)
				if i := strings.LastIndexByte(repo, '/'); i > 0 && errors.Is(err, store.ErrNotFound) {
					return b.Mem.Stat(bg(), repo[:i], d)
				}
				return info, err
			}
		}},
		{"keeps the first source", func(b *broken) {
			b.writers(func(repo string, want store.Info, w *brokenWriter) {
				w.commit = func() error {
					if _, err := b.Mem.Stat(bg(), repo, want.Digest); err == nil {
						return nil
					}
					return w.Writer.Commit(bg())
				}
			})
		}},
		{"replaces the source everywhere", func(b *broken) {
			sources := new(sync.Map)
			b.writers(func(_ string, want store.Info, _ *brokenWriter) { sources.Store(want.Digest, want.Source) })
			b.stat = func(repo string, d digest.Digest) (store.Info, error) {
				info, err := b.Mem.Stat(bg(), repo, d)
				if source, ok := sources.Load(d); ok && err == nil {
					info.Source = source.(string)
				}
				return info, err
			}
		}},
		{"forgets annotations", func(b *broken) {
			b.create = func(repo string, want store.Info) (store.Writer, error) {
				want.Annotations = nil
				return b.Mem.Create(bg(), repo, want)
			}
		}},
		{"takes a manifest for what came last", func(b *broken) {
			b.writers(func(repo string, want store.Info, w *brokenWriter) {
				w.commit = func() error {
					if !want.IsManifest() {
						_ = b.Mem.Delete(bg(), repo, want.Digest)
					}
					return w.Writer.Commit(bg())
				}
			})
		}},
		{"takes a manifest of an unknown type for a blob", func(b *broken) {
			b.create = func(repo string, want store.Info) (store.Writer, error) {
				want.Manifest = false
				return b.Mem.Create(bg(), repo, want)
			}
		}},
		{"shares one position", func(b *broken) {
			var mu sync.Mutex
			shared := make(map[string]*brokenReader)
			b.open = func(repo string, d digest.Digest) (store.Info, io.ReadSeekCloser, error) {
				mu.Lock()
				defer mu.Unlock()
				info, r, err := b.Mem.Open(bg(), repo, d)
				if err != nil {
					return info, nil, err
				}
				key := repo + string(d)
				if shared[key] == nil {
					shared[key] = locking(r)
				}
				return info, shared[key], nil
			}
		}},
		{"refuses a second commit", func(b *broken) {
			b.writers(func(repo string, want store.Info, w *brokenWriter) {
				w.commit = func() error {
					if _, err := b.Mem.Stat(bg(), repo, want.Digest); err == nil {
						return errors.New("exists")
					}
					return w.Writer.Commit(bg())
				}
			})
		}},
		{"bends bad names until they fit", func(b *broken) {
			bend := func(repo string) string {
				return strings.Trim(strings.ToLower(strings.NewReplacer("_", "", ".", "", " ", "").Replace(repo)), "/")
			}
			b.stat = func(repo string, d digest.Digest) (store.Info, error) { return b.Mem.Stat(bg(), bend(repo), d) }
		}},
		{"is slow to forget bad digests", func(b *broken) {
			b.stat = func(repo string, d digest.Digest) (store.Info, error) {
				if d.Validate() != nil {
					return store.Info{}, nil
				}
				return b.Mem.Stat(bg(), repo, d)
			}
		}},
		{"Delete takes content from all", func(b *broken) {
			repos := new(sync.Map)
			b.writers(func(repo string, _ store.Info, _ *brokenWriter) { repos.Store(repo, true) })
			b.delete = func(_ string, d digest.Digest) error {
				repos.Range(func(repo, _ any) bool { _ = b.Mem.Delete(bg(), repo.(string), d); return true })
				return nil
			}
		}},
		{"Delete ends readers", func(b *broken) {
			deleted := new(sync.Map)
			b.delete = func(repo string, d digest.Digest) error {
				deleted.Store(d, true)
				return b.Mem.Delete(bg(), repo, d)
			}
			b.open = func(repo string, d digest.Digest) (store.Info, io.ReadSeekCloser, error) {
				info, r, err := b.Mem.Open(bg(), repo, d)
				if err != nil {
					return info, nil, err
				}
				return info, &brokenReader{ReadSeekCloser: r, read: func(p []byte) (int, error) {
					if _, gone := deleted.Load(d); gone {
						return 0, errors.New("gone")
					}
					return r.Read(p)
				}}, nil
			}
		}},
		{"DeleteTag leaves a stone", func(b *broken) {
			stones := new(sync.Map)
			b.deleteTag = func(repo, tag string) error {
				if t, err := b.Mem.Tag(bg(), repo, tag); err == nil {
					stones.Store(repo+":"+tag, t)
				}
				return b.Mem.DeleteTag(bg(), repo, tag)
			}
			b.setTag = func(repo, tag string, t store.Tag) error {
				if stone, ok := stones.Load(repo + ":" + tag); ok && stone.(store.Tag).Asked.After(t.Asked) {
					return store.ErrStale
				}
				return b.Mem.SetTag(bg(), repo, tag, t)
			}
		}},
		{"Delete minds what is missing", func(b *broken) {
			b.delete = func(repo string, d digest.Digest) error {
				if _, err := b.Mem.Stat(bg(), repo, d); err != nil {
					return err
				}
				return b.Mem.Delete(bg(), repo, d)
			}
		}},
	}
}

// commit writes content and commits it.
func commit(m *store.Mem, repo string, want store.Info, data []byte) {
	w, err := m.Create(bg(), repo, want)
	if err == nil {
		_, _ = w.Write(data)
		_ = w.Commit(bg())
		_ = w.Close()
	}
}

// locking is a reader that concurrent callers share, with one position but without a race,
// and whose Close does nothing.
func locking(r io.ReadSeekCloser) *brokenReader {
	var mu sync.Mutex
	return &brokenReader{
		ReadSeekCloser: lockedSeeker{r, &mu},
		read: func(p []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return r.Read(p)
		},
		close: func() error { return nil },
	}
}

type lockedSeeker struct {
	io.ReadSeekCloser
	mu *sync.Mutex
}

func (l lockedSeeker) Seek(offset int64, whence int) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ReadSeekCloser.Seek(offset, whence)
}
