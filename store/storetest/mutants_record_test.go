package storetest_test

import (
	"bytes"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullthrough/pullthrough/store"
)

func recordMutants() []mutant {
	return []mutant{
		{"strips the end of a record", func(b *broken) {
			b.put = func(kind string, r store.Record) error {
				r.Data = bytes.TrimSuffix(r.Data, []byte("\n"))
				return b.Mem.PutRecord(bg(), kind, r)
			}
		}},
		{"one kind for all", func(b *broken) {
			b.put = func(_ string, r store.Record) error { return b.Mem.PutRecord(bg(), "all", r) }
			b.deleteRecord = func(_, key string) error { return b.Mem.DeleteRecord(bg(), "all", key) }
			b.records = func(string) iter.Seq2[store.Record, error] { return b.Mem.Records(bg(), "all") }
		}},
		{"minds a missing record", func(b *broken) {
			b.deleteRecord = func(kind, key string) error {
				for r := range b.Mem.Records(bg(), kind) {
					if r.Key == key {
						return b.Mem.DeleteRecord(bg(), kind, key)
					}
				}
				return store.ErrNotFound
			}
		}},
		{"a record that is deleted comes back", func(b *broken) {
			last := new(sync.Map)
			b.put = func(kind string, r store.Record) error {
				last.Store(kind+"/"+r.Key, r)
				return b.Mem.PutRecord(bg(), kind, r)
			}
			b.deleteRecord = func(kind, key string) error {
				if err := b.Mem.DeleteRecord(bg(), kind, key); err != nil {
					return err
				}
				// A deferred save that was not waited for.
				if r, ok := last.Load(kind + "/" + key); ok {
					return b.Mem.PutRecord(bg(), kind, r.(store.Record))
				}
				return nil
			}
		}},
		{"writes over a record in place", func(b *broken) {
			var mu sync.Mutex
			b.put = func(kind string, r store.Record) error {
				mu.Lock()
				defer mu.Unlock()
				for old := range b.Mem.Records(bg(), kind) {
					if old.Key == r.Key && len(old.Data) > len(r.Data) {
						r.Data = append(bytes.Clone(r.Data), old.Data[len(r.Data):]...)
					}
				}
				return b.Mem.PutRecord(bg(), kind, r)
			}
		}},
		{"bends bad keys", func(b *broken) {
			b.put = func(kind string, r store.Record) error {
				bend := func(s string) string { return fmt.Sprintf("%.60x", s+".") }
				if b.Mem.PutRecord(bg(), kind, r) != nil {
					r.Key = bend(r.Key)
					return b.Mem.PutRecord(bg(), bend(kind), r)
				}
				return nil
			}
		}},
	}
}

func listMutants() []mutant {
	return []mutant{
		{"lists repositories as a tree", func(b *broken) {
			b.repositories = func(last string) iter.Seq2[string, error] {
				names := collect(b.Mem.Repositories(bg(), last))
				slices.SortFunc(names, func(x, y string) int {
					return slices.Compare(strings.Split(x, "/"), strings.Split(y, "/"))
				})
				return yieldAll(names)
			}
		}},
		{"last is listed again", func(b *broken) {
			b.tagNames = func(repo, last string) iter.Seq2[string, error] {
				names := collect(b.Mem.TagNames(bg(), repo, last))
				if _, err := b.Mem.Tag(bg(), repo, last); err == nil {
					names = append([]string{last}, names...)
				}
				return yieldAll(names)
			}
		}},
		{"lists tags without case", func(b *broken) {
			b.tagNames = func(repo, last string) iter.Seq2[string, error] {
				names := collect(b.Mem.TagNames(bg(), repo, last))
				slices.SortFunc(names, func(x, y string) int { return strings.Compare(strings.ToLower(x), strings.ToLower(y)) })
				return yieldAll(names)
			}
		}},
		{"lists bare referrers", func(b *broken) {
			b.referrers = func(repo string, d digest.Digest) iter.Seq2[ocispec.Descriptor, error] {
				return func(yield func(ocispec.Descriptor, error) bool) {
					for desc, err := range b.Mem.Referrers(bg(), repo, d) {
						desc.ArtifactType, desc.Annotations = "", nil
						if !yield(desc, err) {
							return
						}
					}
				}
			}
		}},
		{"lists what is deleted", func(b *broken) {
			seen := new(sync.Map)
			b.setTag = func(repo, tag string, t store.Tag) error {
				seen.Store(repo, true)
				return b.Mem.SetTag(bg(), repo, tag, t)
			}
			b.repositories = func(last string) iter.Seq2[string, error] {
				names := collect(b.Mem.Repositories(bg(), last))
				seen.Range(func(repo, _ any) bool {
					if name := repo.(string); name > last && !slices.Contains(names, name) {
						names = append(names, name)
					}
					return true
				})
				slices.Sort(names)
				return yieldAll(names)
			}
		}},
	}
}

func collect(seq iter.Seq2[string, error]) (names []string) {
	for name, err := range seq {
		if err == nil {
			names = append(names, name)
		}
	}
	return names
}

func yieldAll(names []string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, name := range names {
			if !yield(name, nil) {
				return
			}
		}
	}
}
