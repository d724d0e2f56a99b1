package storetest_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/pullthrough/pullthrough/store"
)

func batchMutants() []mutant {
	return slices.Concat(batchWholeMutants(), batchPartMutants(), []mutant{
		{"links the manifests of a batch as blobs", func(b *broken) {
			b.changeBatches(func(batch *store.Batch) {
				for i := range batch.Content {
					batch.Content[i].Info.MediaType = "application/octet-stream"
				}
			})
		}},
		{"keeps the source of what is there", func(b *broken) {
			b.changeBatches(func(batch *store.Batch) {
				for i, p := range batch.Content {
					if info, err := b.Mem.Stat(bg(), p.Repo, p.Info.Digest); err == nil {
						batch.Content[i].Info.Source = info.Source
					}
				}
			})
		}},
		{"keeps the data of records", func(b *broken) {
			kept := new(sync.Map)
			b.changeBatches(func(batch *store.Batch) {
				for _, r := range batch.Records {
					kept.Store(r.Kind+"/"+r.Key, r.Data)
				}
			})
			b.record = func(kind, key string) ([]byte, error) {
				data, err := b.Mem.Record(bg(), kind, key)
				if mine, ok := kept.Load(kind + "/" + key); ok && err == nil && len(mine.([]byte)) == len(data) {
					data = mine.([]byte)
				}
				return data, err
			}
		}},
		{"the empty data of a record deletes it", func(b *broken) {
			b.changeBatches(func(batch *store.Batch) {
				for i, r := range batch.Records {
					if len(r.Data) == 0 {
						batch.Records[i].Data = nil
					}
				}
			})
		}},
		{"a record without data is empty", func(b *broken) {
			b.changeBatches(func(batch *store.Batch) {
				for i, r := range batch.Records {
					if r.Data == nil {
						batch.Records[i].Data = []byte{}
					}
				}
			})
		}},
		{"deletes a tag wherever it points", func(b *broken) {
			b.changeBatches(func(batch *store.Batch) {
				for i, d := range batch.Deletions {
					if d.Tag != "" {
						batch.Deletions[i].Digest = ""
					}
				}
			})
		}},
		{"deletes the tags of content that it deletes", func(b *broken) {
			b.changeBatches(func(batch *store.Batch) {
				for _, d := range batch.Deletions {
					if d.Tag == "" {
						batch.Deletions = append(batch.Deletions, store.Deletion{Repo: d.Repo, Tag: "v3"})
					}
				}
			})
		}},
	})
}

// batchWholeMutants break what holds for a batch as a whole.
func batchWholeMutants() []mutant {
	return []mutant{
		{"a batch ends at its first error", func(b *broken) {
			b.apply = func(_ context.Context, batch *store.Batch) error { return b.inOrder(batch, nil) }
		}},
		{"a batch does not mind its context", func(b *broken) {
			b.apply = func(_ context.Context, batch *store.Batch) error { return b.Mem.Apply(bg(), batch) }
		}},
		{"a batch is done piece by piece", func(b *broken) {
			b.apply = func(ctx context.Context, batch *store.Batch) error {
				if err := wouldDo(ctx, batch); err != nil {
					return err
				}
				return b.inOrder(batch, func() { time.Sleep(100 * time.Microsecond) })
			}
		}},
		{"a batch moves its tags first", func(b *broken) {
			b.apply = func(ctx context.Context, batch *store.Batch) error {
				if err := wouldDo(ctx, batch); err != nil {
					return err
				}
				rest := *batch
				rest.Tags = nil
				err := b.Mem.Apply(bg(), &store.Batch{Tags: batch.Tags})
				time.Sleep(100 * time.Microsecond)
				return errors.Join(err, b.Mem.Apply(bg(), &rest))
			}
		}},
		{"a batch deletes first", func(b *broken) {
			b.apply = func(ctx context.Context, batch *store.Batch) error {
				if err := wouldDo(ctx, batch); err != nil {
					return err
				}
				rest := *batch
				rest.Deletions = nil
				return errors.Join(b.Mem.Apply(bg(), &store.Batch{Deletions: batch.Deletions}), b.Mem.Apply(bg(), &rest))
			}
		}},
		{"an empty batch is an error", func(b *broken) {
			b.apply = func(ctx context.Context, batch *store.Batch) error {
				if len(batch.Content)+len(batch.Tags)+len(batch.Deletions)+len(batch.Records) == 0 {
					return errors.New("nothing to do")
				}
				return b.Mem.Apply(ctx, batch)
			}
		}},
		{"a batch minds deletions of what is not there", func(b *broken) {
			b.apply = func(ctx context.Context, batch *store.Batch) error {
				for _, d := range batch.Deletions {
					if d.Tag == "" {
						if _, err := b.Mem.Stat(bg(), d.Repo, d.Digest); err != nil {
							return err
						}
					}
				}
				return b.Mem.Apply(ctx, batch)
			}
		}},
	}
}

// batchPartMutants break what holds for the tags of a batch.
func batchPartMutants() []mutant {
	return []mutant{
		{"the records of a tag change in any case", func(b *broken) {
			b.changeBatches(func(batch *store.Batch) {
				for i, t := range batch.Tags {
					batch.Records = slices.Concat(t.Records, batch.Records)
					batch.Tags[i].Records = nil
				}
			})
		}},
		{"the records of a tag change unless it is stale", func(b *broken) {
			b.apply = func(ctx context.Context, batch *store.Batch) error {
				if len(batch.Tags) != 1 || len(batch.Content)+len(batch.Records) > 0 {
					return b.Mem.Apply(ctx, batch)
				}
				t := &batch.Tags[0]
				if t.Err = b.Mem.SetTag(bg(), t.Repo, t.Tag, t.Value); t.Err != nil {
					return nil
				}
				return b.Mem.Apply(bg(), &store.Batch{Records: t.Records})
			}
		}},
		{"the records of a tag change only if its digest does", func(b *broken) {
			b.changeBatches(func(batch *store.Batch) {
				for i, t := range batch.Tags {
					if old, err := b.Mem.Tag(bg(), t.Repo, t.Tag); err == nil && old.Digest == t.Value.Digest {
						batch.Tags[i].Records = nil
					}
				}
			})
		}},
		{"a stale tag fails its batch", func(b *broken) {
			b.apply = func(ctx context.Context, batch *store.Batch) error {
				if err := b.Mem.Apply(ctx, batch); err != nil {
					return err
				}
				for _, t := range batch.Tags {
					if t.Err != nil {
						return t.Err
					}
				}
				return nil
			}
		}},
		{"Err stays as it was", func(b *broken) {
			b.apply = func(ctx context.Context, batch *store.Batch) error {
				mine := *batch
				mine.Tags = slices.Clone(batch.Tags)
				err := b.Mem.Apply(ctx, &mine)
				for i, t := range mine.Tags {
					if t.Err != nil {
						batch.Tags[i].Err = t.Err
					}
				}
				return err
			}
		}},
		{"the first of two values of a tag stays", func(b *broken) {
			b.changeBatches(func(batch *store.Batch) {
				seen := map[string]bool{}
				batch.Tags = slices.DeleteFunc(batch.Tags, func(t store.TagChange) bool {
					twice := seen[t.Repo+":"+t.Tag]
					seen[t.Repo+":"+t.Tag] = true
					return twice
				})
			})
		}},
	}
}

// changeBatches lets change replace parts of each batch. The errors of its tags are
// passed on.
func (b *broken) changeBatches(change func(batch *store.Batch)) {
	b.apply = func(ctx context.Context, batch *store.Batch) error {
		mine := store.Batch{
			Content: slices.Clone(batch.Content), Tags: slices.Clone(batch.Tags),
			Deletions: slices.Clone(batch.Deletions), Records: slices.Clone(batch.Records),
		}
		change(&mine)
		err := b.Mem.Apply(ctx, &mine)
		for i := range mine.Tags {
			batch.Tags[i].Err = mine.Tags[i].Err
		}
		return err
	}
}

// wouldDo returns the error that a batch has in an empty store.
func wouldDo(ctx context.Context, batch *store.Batch) error {
	mine := *batch
	mine.Tags = slices.Clone(batch.Tags)
	return new(store.Mem).Apply(ctx, &mine)
}

// inOrder does what a batch says as batches of one piece, and calls between them.
func (b *broken) inOrder(batch *store.Batch, between func()) error {
	one := func(part store.Batch) error {
		if between != nil {
			between()
		}
		return b.Mem.Apply(bg(), &part)
	}
	for _, p := range batch.Content {
		if err := one(store.Batch{Content: []store.Piece{p}}); err != nil {
			return err
		}
	}
	for i := range batch.Tags {
		part := store.Batch{Tags: batch.Tags[i : i+1]}
		if err := one(part); err != nil {
			return err
		}
	}
	for _, d := range batch.Deletions {
		if err := one(store.Batch{Deletions: []store.Deletion{d}}); err != nil {
			return err
		}
	}
	for _, r := range batch.Records {
		if err := one(store.Batch{Records: []store.RecordChange{r}}); err != nil {
			return err
		}
	}
	return nil
}
