package storetest_test

import (
	"math"
	"sync/atomic"

	"github.com/pullthrough/pullthrough/store"
)

func sizeMutants() []mutant {
	return []mutant{
		{"a far write allocates what lies between", func(b *broken) {
			b.spools(func(_ string, _ store.Info, s *brokenSpool) {
				var index atomic.Pointer[[][]byte]
				s.writeAt = func(p []byte, off int64) (int, error) {
					n, err := s.memSpool.WriteAt(p, off)
					if old := index.Load(); err == nil && (old == nil || int64(len(*old)) <= off>>18) {
						pieces := make([][]byte, off>>18+1)
						index.Store(&pieces)
					}
					return n, err
				}
			})
		}},
		{"a write that ends beyond any size succeeds", func(b *broken) {
			b.spools(func(_ string, _ store.Info, s *brokenSpool) {
				s.writeAt = func(p []byte, off int64) (int, error) {
					if off > math.MaxInt64-int64(len(p)) {
						return len(p), nil
					}
					return s.memSpool.WriteAt(p, off)
				}
			})
		}},
		{"a checkpoint beyond what is written counts as one at the end", func(b *broken) {
			b.spools(func(_ string, _ store.Info, s *brokenSpool) {
				var end atomic.Int64
				s.writeAt = func(p []byte, off int64) (int, error) {
					n, err := s.memSpool.WriteAt(p, off)
					if err == nil {
						end.Store(max(end.Load(), off+int64(n)))
					}
					return n, err
				}
				s.checkpoint = func(p store.Progress) error {
					p.Front = min(p.Front, end.Load())
					return s.memSpool.Checkpoint(p)
				}
			})
		}},
		{"the sum of the sizes overflows", func(b *broken) {
			var used atomic.Int64
			b.create = func(repo string, want store.Info) (store.Writer, error) {
				if used.Add(want.Size) < -1000 {
					return nil, store.ErrFull
				}
				return b.Mem.Create(bg(), repo, want)
			}
		}},
	}
}
