package storetest_test

import (
	"bytes"
	"errors"
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
			b.put = func(kind, key string, data []byte) error {
				return b.Mem.PutRecord(bg(), kind, key, bytes.TrimSuffix(data, []byte("\n")))
			}
		}},
		{"hands out its own bytes", func(b *broken) {
			kept := new(sync.Map)
			b.record = func(kind, key string) ([]byte, error) {
				if data, ok := kept.Load(kind + key); ok {
					return data.([]byte), nil
				}
				data, err := b.Mem.Record(bg(), kind, key)
				if err == nil && key == "a" {
					kept.Store(kind+key, data)
				}
				return data, err
			}
		}},
		{"an empty record for one that is not there", func(b *broken) {
			b.record = func(kind, key string) ([]byte, error) {
				data, err := b.Mem.Record(bg(), kind, key)
				if errors.Is(err, store.ErrNotFound) {
					err = nil
				}
				return data, err
			}
		}},
		{"one kind for all", func(b *broken) {
			b.put = func(_, key string, data []byte) error { return b.Mem.PutRecord(bg(), "all", key, data) }
			b.record = func(_, key string) ([]byte, error) { return b.Mem.Record(bg(), "all", key) }
			b.deleteRecord = func(_, key string) error { return b.Mem.DeleteRecord(bg(), "all", key) }
			b.recordKeys = func(string) iter.Seq2[string, error] { return b.Mem.RecordKeys(bg(), "all") }
		}},
		{"minds a missing record", func(b *broken) {
			b.deleteRecord = func(kind, key string) error {
				if _, err := b.Mem.Record(bg(), kind, key); err != nil {
					return err
				}
				return b.Mem.DeleteRecord(bg(), kind, key)
			}
		}},
		{"a record that is deleted comes back", func(b *broken) {
			last := new(sync.Map)
			b.put = func(kind, key string, data []byte) error {
				last.Store(kind+"/"+key, bytes.Clone(data))
				return b.Mem.PutRecord(bg(), kind, key, data)
			}
			b.deleteRecord = func(kind, key string) error {
				if err := b.Mem.DeleteRecord(bg(), kind, key); err != nil {
					return err
				}
				// The record is saved later, and the write does not wait for it.
				if data, ok := last.Load(kind + "/" + key); ok {
					return b.Mem.PutRecord(bg(), kind, key, data.([]byte))
				}
				return nil
			}
		}},
		{"writes over a record in place", func(b *broken) {
			var mu sync.Mutex
			b.put = func(kind, key string, data []byte) error {
				mu.Lock()
				defer mu.Unlock()
				if old, _ := b.Mem.Record(bg(), kind, key); len(old) > len(data) {
					data = append(bytes.Clone(data), old[len(data):]...)
				}
				return b.Mem.PutRecord(bg(), kind, key, data)
			}
		}},
		{"bends bad keys", func(b *broken) {
			b.put = func(kind, key string, data []byte) error {
				bend := func(s string) string { return fmt.Sprintf("%.60x", s+".") }
				if b.Mem.PutRecord(bg(), kind, key, data) != nil {
					return b.Mem.PutRecord(bg(), bend(kind), bend(key), data)
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
