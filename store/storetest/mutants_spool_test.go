package storetest_test

import (
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	"github.com/pullthrough/pullthrough/store"
)

func spoolMutants() []mutant {
	return []mutant{
		{"a spool holds back the last byte", func(b *broken) {
			b.spools(func(_ string, _ store.Info, s *brokenSpool) {
				s.open = func() (io.ReadSeekCloser, error) {
					r, err := s.memSpool.Open()
					return &brokenReader{ReadSeekCloser: r, read: func(p []byte) (int, error) {
						at, _ := r.Seek(0, io.SeekCurrent)
						end, _ := r.Seek(-1, io.SeekEnd)
						_, _ = r.Seek(at, io.SeekStart)
						if at >= end {
							return 0, io.EOF
						}
						return r.Read(p[:min(int64(len(p)), end-at)])
					}}, err
				}
			})
		}},
		{"handles of a spool share a position", func(b *broken) {
			b.spools(func(_ string, _ store.Info, s *brokenSpool) {
				s.open = sync.OnceValues(func() (io.ReadSeekCloser, error) {
					r, err := s.memSpool.Open()
					return locking(r), err
				})
			})
		}},
		{"a spool is written in order only", func(b *broken) {
			b.spools(func(_ string, _ store.Info, s *brokenSpool) {
				var end atomic.Int64
				end.Store(s.memSpool.Progress().Front)
				s.writeAt = func(p []byte, off int64) (int, error) {
					if off != end.Load() {
						return 0, errors.New("out of order")
					}
					n, err := s.memSpool.WriteAt(p, off)
					end.Add(int64(n))
					return n, err
				}
			})
		}},
		{"a spool is visible when it is full", func(b *broken) {
			b.spools(func(repo string, want store.Info, s *brokenSpool) {
				s.writeAt = func(p []byte, off int64) (int, error) {
					n, err := s.memSpool.WriteAt(p, off)
					if off == 0 && int64(n) == want.Size {
						commit(b.Mem, repo, want, p)
					}
					return n, err
				}
			})
		}},
		{"two spools at once", func(b *broken) {
			b.spool = func(repo string, want store.Info) (store.Spool, error) {
				s, err := b.Mem.Spool(bg(), repo, want)
				if err != nil && want.Digest.Validate() == nil {
					return b.Mem.Spool(bg(), repo+"-again", want)
				}
				return s, err
			}
		}},
		{"one spool for all repositories", func(b *broken) {
			var mu sync.Mutex
			open := make(map[digest.Digest]bool)
			b.spool = func(repo string, want store.Info) (store.Spool, error) {
				mu.Lock()
				defer mu.Unlock()
				if open[want.Digest] {
					return nil, errors.New("busy")
				}
				s, err := b.Mem.Spool(bg(), repo, want)
				if err != nil {
					return nil, err
				}
				open[want.Digest] = true
				bs := &brokenSpool{memSpool: s.(memSpool)}
				bs.close = func() error {
					mu.Lock()
					defer mu.Unlock()
					delete(open, want.Digest)
					return bs.memSpool.Close()
				}
				return bs, nil
			}
		}},
		{"Close of a spool commits", func(b *broken) {
			b.spools(func(_ string, want store.Info, s *brokenSpool) {
				s.close = func() error {
					want.Size = -1
					_ = s.memSpool.Commit(bg(), want)
					return s.memSpool.Close()
				}
			})
		}},
		{"handles end with Commit", func(b *broken) {
			b.spools(func(_ string, _ store.Info, s *brokenSpool) {
				var over atomic.Bool
				s.commit = func(got store.Info) error {
					over.Store(true)
					return s.memSpool.Commit(bg(), got)
				}
				s.open = func() (io.ReadSeekCloser, error) {
					r, err := s.memSpool.Open()
					return &brokenReader{ReadSeekCloser: r, read: func(p []byte) (int, error) {
						if over.Load() {
							return 0, errors.New("over")
						}
						return r.Read(p)
					}}, err
				}
			})
		}},
		{"Open ends with Commit", func(b *broken) {
			b.spools(func(_ string, _ store.Info, s *brokenSpool) {
				var over atomic.Bool
				s.commit = func(got store.Info) error {
					over.Store(true)
					return s.memSpool.Commit(bg(), got)
				}
				s.open = func() (io.ReadSeekCloser, error) {
					if over.Load() {
						return nil, errors.New("over")
					}
					return s.memSpool.Open()
				}
			})
		}},
		{"a spool does not compare the size", func(b *broken) {
			b.spool = func(repo string, want store.Info) (store.Spool, error) {
				want.Size = -1
				s, err := b.Mem.Spool(bg(), repo, want)
				if err != nil {
					return nil, err
				}
				bs := &brokenSpool{memSpool: s.(memSpool)}
				bs.commit = func(got store.Info) error {
					got.Size = -1
					return bs.memSpool.Commit(bg(), got)
				}
				return bs, nil
			}
		}},
		{"one handle at a time", func(b *broken) {
			b.spools(func(_ string, _ store.Info, s *brokenSpool) {
				var handles atomic.Int32
				s.open = func() (io.ReadSeekCloser, error) {
					if handles.Add(1) > 1 {
						handles.Add(-1)
						return nil, errors.New("busy")
					}
					r, err := s.memSpool.Open()
					return &brokenReader{ReadSeekCloser: r, close: func() error { handles.Add(-1); return r.Close() }}, err
				}
			})
		}},
		{"a checkpoint loses the hash", func(b *broken) {
			b.spools(func(_ string, _ store.Info, s *brokenSpool) {
				s.checkpoint = func(p store.Progress) error {
					p.Hash = nil
					return s.memSpool.Checkpoint(p)
				}
			})
		}},
		{"a checkpoint vouches for more than it was told", func(b *broken) {
			b.spools(func(_ string, _ store.Info, s *brokenSpool) {
				s.checkpoint = func(p store.Progress) error {
					p.Spans = slices.Clone(p.Spans)
					for i := range p.Spans {
						p.Spans[i].Start -= 10
					}
					return s.memSpool.Checkpoint(p)
				}
			})
		}},
		{"the first checkpoint counts", func(b *broken) {
			b.spools(func(_ string, _ store.Info, s *brokenSpool) {
				var once sync.Once
				s.checkpoint = func(p store.Progress) (err error) {
					once.Do(func() { err = s.memSpool.Checkpoint(p) })
					return err
				}
			})
		}},
		{"Keep forgets", func(b *broken) {
			b.spools(func(_ string, _ store.Info, s *brokenSpool) { s.keep = s.memSpool.Close })
		}},
		{"kept by digest alone", func(b *broken) {
			kept := new(sync.Map)
			b.spool = func(repo string, want store.Info) (store.Spool, error) {
				s, err := b.Mem.Spool(bg(), repo, want)
				if err != nil {
					return nil, err
				}
				bs := &brokenSpool{memSpool: s.(memSpool)}
				bs.progress = func() store.Progress {
					p, _ := kept.Load(want.Digest)
					last, _ := p.(store.Progress)
					return last
				}
				bs.checkpoint = func(p store.Progress) error {
					kept.Store(want.Digest, p)
					return bs.memSpool.Checkpoint(p)
				}
				return bs, nil
			}
		}},
		{"a checkpoint survives Close", func(b *broken) {
			type key struct {
				repo, origin string
				digest       digest.Digest
			}
			saved := new(sync.Map)
			b.spools(func(repo string, want store.Info, s *brokenSpool) {
				is := key{repo, want.Origin(), want.Digest}
				s.checkpoint = func(p store.Progress) error {
					saved.Store(is, p) // even if the call comes too late
					return s.memSpool.Checkpoint(p)
				}
				s.progress = func() store.Progress {
					p, _ := saved.Load(is)
					last, _ := p.(store.Progress)
					return last
				}
			})
		}},
	}
}
