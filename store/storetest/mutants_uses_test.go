package storetest_test

import (
	"context"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/store"
)

func blobListMutants() []mutant {
	return []mutant{
		{"yields blobs backwards", func(b *broken) {
			b.changeBlobs(func(_ string, infos []store.Info) []store.Info {
				slices.Reverse(infos)
				return infos
			})
		}},
		{"yields manifests among the blobs", func(b *broken) {
			b.changeBlobs(func(repo string, infos []store.Info) []store.Info {
				for info := range b.Mem.Manifests(bg(), repo) {
					infos = append(infos, info)
				}
				slices.SortFunc(infos, func(x, y store.Info) int { return compare(x.Digest, y.Digest) })
				return infos
			})
		}},
		{"yields blobs that are deleted", func(b *broken) {
			var deleted sync.Map // by repository
			b.delete = func(repo string, d digest.Digest) error {
				if info, err := b.Mem.Stat(bg(), repo, d); err == nil && !info.IsManifest() {
					deleted.Store(repo, info)
				}
				return b.Mem.Delete(bg(), repo, d)
			}
			b.changeBlobs(func(repo string, infos []store.Info) []store.Info {
				if info, ok := deleted.Load(repo); ok {
					infos = append(infos, info.(store.Info))
				}
				return infos
			})
		}},
		{"yields one page of blobs", func(b *broken) {
			b.changeBlobs(func(_ string, infos []store.Info) []store.Info { return infos[:min(len(infos), 256)] })
		}},
		{"yields the last of a page of blobs twice", func(b *broken) {
			b.changeBlobs(func(_ string, infos []store.Info) []store.Info {
				if len(infos) > 256 {
					infos = slices.Insert(infos, 255, infos[255])
				}
				return infos
			})
		}},
		{"goes on with blobs after the end of the context", func(b *broken) {
			b.blobs = func(_ context.Context, repo string) iter.Seq2[store.Info, error] { return b.Mem.Blobs(bg(), repo) }
		}},
	}
}

func compare(x, y digest.Digest) int {
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

// changeBlobs lets change replace the values that Blobs yields. It passes errors on.
func (b *broken) changeBlobs(change func(repo string, infos []store.Info) []store.Info) {
	b.blobs = func(ctx context.Context, repo string) iter.Seq2[store.Info, error] {
		return func(yield func(store.Info, error) bool) {
			var infos []store.Info
			for info, err := range b.Mem.Blobs(ctx, repo) {
				if err != nil {
					yield(info, err)
					return
				}
				infos = append(infos, info)
			}
			for _, info := range change(repo, infos) {
				if err := ctx.Err(); err != nil {
					yield(store.Info{}, err)
					return
				}
				if !yield(info, nil) {
					return
				}
			}
		}
	}
}

func useMutants() []mutant {
	return []mutant{
		{"a manifest that was only linked was never used", func(b *broken) {
			used := b.noteUses()
			b.changeUses(func(repo string, info *store.Info) {
				if _, ok := used.Load(repo + string(info.Digest)); !ok {
					info.Use = store.Use{}
				}
			})
		}},
		{"the times of uses are not coarse", func(b *broken) {
			b.changeUses(func(_ string, info *store.Info) { info.Use.Last = info.Use.Last.Add(time.Second) })
		}},
		{"each use counts an hour", func(b *broken) {
			used := b.noteUses()
			b.changeUses(func(repo string, info *store.Info) {
				if n, ok := used.Load(repo + string(info.Digest)); ok {
					info.Use.Hours += n.(int)
				}
			})
		}},
		{"a use counts in all repositories", func(b *broken) {
			var used sync.Map
			b.recordUse = func(repo string, d digest.Digest) { used.Store(d, repo) }
			b.changeUses(func(repo string, info *store.Info) {
				if by, ok := used.Load(info.Digest); ok && by != repo {
					info.Use.Hours++
				}
			})
		}},
		{"a use makes a manifest of what is not there", func(b *broken) {
			var ghosts sync.Map
			b.recordUse = func(repo string, d digest.Digest) {
				if _, err := b.Mem.Stat(bg(), repo, d); err != nil && d.Validate() == nil {
					ghosts.Store(repo, d)
				}
			}
			b.changeManifests(func(repo string, infos []store.Info) []store.Info {
				if d, ok := ghosts.Load(repo); ok {
					if _, err := b.Mem.Stat(bg(), repo, d.(digest.Digest)); err != nil {
						infos = append(infos, store.Info{})
					}
				}
				return infos
			})
		}},
		{"remembers uses after Delete", func(b *broken) {
			var deleted sync.Map
			b.delete = func(repo string, d digest.Digest) error {
				deleted.Store(repo+string(d), true)
				return b.Mem.Delete(bg(), repo, d)
			}
			b.changeUses(func(repo string, info *store.Info) {
				if _, ok := deleted.Load(repo + string(info.Digest)); ok {
					info.Use.Hours++
				}
			})
		}},
		{"believes the caller about uses", func(b *broken) {
			var told sync.Map
			b.writers(func(repo string, want store.Info, _ *brokenWriter) {
				if want.Use.Hours != 0 {
					told.Store(repo+string(want.Digest), want.Use)
				}
			})
			b.changeUses(func(repo string, info *store.Info) {
				if u, ok := told.Load(repo + string(info.Digest)); ok {
					info.Use = u.(store.Use)
				}
			})
		}},
	}
}

// noteUses counts the calls of RecordUse by repository and digest.
func (b *broken) noteUses() *sync.Map {
	used := new(sync.Map)
	b.recordUse = func(repo string, d digest.Digest) {
		n, _ := used.LoadOrStore(repo+string(d), 0)
		used.Store(repo+string(d), n.(int)+1)
		b.Mem.RecordUse(repo, d)
	}
	return used
}

// changeUses lets change replace the use of each manifest that is listed.
func (b *broken) changeUses(change func(repo string, info *store.Info)) {
	b.changeManifests(func(repo string, infos []store.Info) []store.Info {
		for i := range infos {
			change(repo, &infos[i])
		}
		return infos
	})
}
