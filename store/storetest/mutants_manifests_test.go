package storetest_test

import (
	"context"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/store"
)

func manifestMutants() []mutant {
	return []mutant{
		{"yields manifests backwards", func(b *broken) {
			b.changeManifests(func(_ string, infos []store.Info) []store.Info {
				slices.Reverse(infos)
				return infos
			})
		}},
		{"yields blobs among the manifests", func(b *broken) {
			seen := new(sync.Map)
			b.writers(func(_ string, want store.Info, _ *brokenWriter) { seen.Store(want.Digest, true) })
			b.changeManifests(func(repo string, infos []store.Info) []store.Info {
				seen.Range(func(d, _ any) bool {
					if info, err := b.Mem.Stat(bg(), repo, d.(digest.Digest)); err == nil && !info.IsManifest() {
						infos = append(infos, info)
					}
					return true
				})
				return infos
			})
		}},
		{"yields bare manifests", func(b *broken) {
			b.changeManifests(func(_ string, infos []store.Info) []store.Info {
				for i := range infos {
					infos[i].Subject, infos[i].Annotations = "", nil
				}
				return infos
			})
		}},
		{"yields only manifests of a known type", func(b *broken) {
			b.changeManifests(func(_ string, infos []store.Info) []store.Info {
				return slices.DeleteFunc(infos, func(info store.Info) bool { return info.Manifest })
			})
		}},
		{"yields the manifests of the repositories below", func(b *broken) {
			b.changeManifests(func(repo string, infos []store.Info) []store.Info {
				for _, name := range collect(b.Mem.Repositories(bg(), repo)) {
					if !strings.HasPrefix(name, repo+"/") {
						continue
					}
					for info := range b.Mem.Manifests(bg(), name) {
						infos = append(infos, info)
					}
				}
				return infos
			})
		}},
		{"yields no manifests of what is no repository name", func(b *broken) {
			b.manifests = func(ctx context.Context, repo string) iter.Seq2[store.Info, error] {
				return func(yield func(store.Info, error) bool) {
					for info, err := range b.Mem.Manifests(ctx, repo) {
						if err != nil && ctx.Err() != nil {
							yield(info, err)
							return
						}
						if err != nil || !yield(info, nil) {
							return
						}
					}
				}
			}
		}},
		{"yields manifests that are deleted", func(b *broken) {
			deleted := new(sync.Map) // by repository
			b.delete = func(repo string, d digest.Digest) error {
				if info, err := b.Mem.Stat(bg(), repo, d); err == nil && info.IsManifest() {
					deleted.Store(repo, info)
				}
				return b.Mem.Delete(bg(), repo, d)
			}
			b.changeManifests(func(repo string, infos []store.Info) []store.Info {
				if info, ok := deleted.Load(repo); ok {
					infos = append(infos, info.(store.Info))
				}
				return infos
			})
		}},
	}
}

// changeManifests lets change replace the values that Manifests yields. It passes errors on.
func (b *broken) changeManifests(change func(repo string, infos []store.Info) []store.Info) {
	b.manifests = func(ctx context.Context, repo string) iter.Seq2[store.Info, error] {
		return func(yield func(store.Info, error) bool) {
			var infos []store.Info
			for info, err := range b.Mem.Manifests(ctx, repo) {
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
