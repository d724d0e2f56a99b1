package storetest_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/store"
)

func spaceMutants() []mutant {
	return []mutant{
		{"counts content in each repository", func(b *broken) {
			b.changeSize(func(s *store.Size) {
				s.Content = 0
				for name := range b.Mem.Repositories(bg(), "") {
					n, _ := b.Mem.RepositorySize(bg(), name)
					s.Content += n
				}
			})
		}},
		{"counts content that is committed again", func(b *broken) {
			var twice atomic.Int64
			b.writers(func(repo string, want store.Info, w *brokenWriter) {
				w.commit = func() error {
					if info, err := b.Mem.Stat(bg(), repo, want.Digest); err == nil {
						twice.Add(info.Size)
					}
					return w.Writer.Commit(bg())
				}
			})
			b.changeSize(func(s *store.Size) { s.Content += twice.Load() })
		}},
		{"counts deleted content", func(b *broken) {
			var deleted atomic.Int64
			b.delete = func(repo string, d digest.Digest) error {
				if info, err := b.Mem.Stat(bg(), repo, d); err == nil {
					deleted.Add(info.Size)
				}
				return b.Mem.Delete(bg(), repo, d)
			}
			b.repoSize = func(ctx context.Context, repo string) (int64, error) {
				n, err := b.Mem.RepositorySize(ctx, repo)
				return n + deleted.Load(), err
			}
		}},
		{"counts the repositories below", func(b *broken) {
			b.repoSize = func(ctx context.Context, repo string) (int64, error) {
				n, err := b.Mem.RepositorySize(ctx, repo)
				for name := range b.Mem.Repositories(bg(), "") {
					if err == nil && strings.HasPrefix(name, repo+"/") {
						more, _ := b.Mem.RepositorySize(ctx, name)
						n += more
					}
				}
				if more, merr := b.Mem.RepositorySize(ctx, repo+"/b"); err == nil && merr == nil {
					n += more
				}
				return n, err
			}
		}},
		{"counts what is being written", func(b *broken) {
			var unfinished atomic.Int64
			b.writers(func(_ string, want store.Info, w *brokenWriter) {
				unfinished.Add(want.Size)
				end := sync.OnceFunc(func() { unfinished.Add(-want.Size) })
				w.commit = func() error { end(); return w.Writer.Commit(bg()) }
				w.close = func() error { end(); return w.Writer.Close() }
			})
			b.changeSize(func(s *store.Size) { s.Content += unfinished.Load() })
		}},
		{"does not count what a batch deletes", func(b *broken) {
			var more atomic.Int64
			b.apply = func(ctx context.Context, batch *store.Batch) error {
				for _, d := range batch.Deletions {
					if info, err := b.Mem.Stat(bg(), d.Repo, d.Digest); err == nil && d.Tag == "" {
						more.Add(info.Size)
					}
				}
				return b.Mem.Apply(ctx, batch)
			}
			b.changeSize(func(s *store.Size) { s.Content += more.Load() })
		}},
		{"the overhead is what a sum gives", func(b *broken) {
			b.changeSize(func(s *store.Size) { s.Overhead -= 4 << 10 })
		}},
		{"what is used is free", func(b *broken) {
			b.changeSize(func(s *store.Size) { s.Free = s.Content << 10 })
		}},
		{"sizes of what is no repository name", func(b *broken) {
			b.repoSize = func(ctx context.Context, repo string) (int64, error) {
				n, err := b.Mem.RepositorySize(ctx, repo)
				if ctx.Err() == nil {
					err = nil
				}
				return n, err
			}
		}},
	}
}

// changeSize lets change replace what Size returns. It passes errors on.
func (b *broken) changeSize(change func(s *store.Size)) {
	b.size = func(ctx context.Context) (store.Size, error) {
		s, err := b.Mem.Size(ctx)
		if err == nil {
			change(&s)
		}
		return s, err
	}
}
