package store

import (
	"bytes"
	"context"
	"fmt"
	"iter"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// pageSize is how many entries a list reads in one transaction. The user of a list may
// be slow, and while a transaction lasts, what others free is not used again.
const pageSize = 256

// pages yields what next reads, page after page. next gets the key to begin with, and
// returns the key of the next page, or nil if there is none. An error of check is all
// that is yielded.
func pages[T any](ctx context.Context, d *Dir, check error, key []byte, next func(t dirTx, from []byte, full func(int) bool) ([]T, []byte)) iter.Seq2[T, error] {
	full := func(n int) bool { return n >= pageSize }
	return func(yield func(T, error) bool) {
		var none T
		if check != nil {
			yield(none, check)
			return
		}
		for key := key; key != nil; {
			var list []T
			err := ctx.Err()
			if err == nil {
				err = d.view(func(t dirTx) error {
					list, key = next(t, key, full)
					return nil
				})
			}
			if err != nil {
				yield(none, fmt.Errorf("store: list: %w", storeError(err)))
				return
			}
			for _, v := range list {
				if err := ctx.Err(); err != nil {
					yield(none, err)
					return
				}
				if !yield(v, nil) {
					return
				}
			}
		}
	}
}

// Repositories implements [Lister]. It holds one page of names in memory.
func (d *Dir) Repositories(ctx context.Context, last string) iter.Seq2[string, error] {
	return pages(ctx, d, nil, append([]byte(last), 1), func(t dirTx, from []byte, full func(int) bool) (names []string, more []byte) {
		for k := t.Seek(inRepos, from); k != nil; k = t.Seek(inRepos, from) {
			if full(len(names)) {
				return names, from
			}
			name, kind, ok := repoOfKey(k)
			if !ok {
				from = append(bytes.Clone(k), 0) // no key of ours
				continue
			}
			if kind == keyManifest || kind == keyTag {
				names = append(names, string(name))
			}
			from = append(bytes.Clone(name), 1) // after all keys of it
		}
		return names, nil
	})
}

// TagNames implements [Lister].
func (d *Dir) TagNames(ctx context.Context, repo, last string) iter.Seq2[string, error] {
	prefix := repoKey(repo, keyTag)
	from := prefix
	if last != "" {
		from = append(append(bytes.Clone(prefix), last...), 0)
	}
	return pages(ctx, d, checkRepository(repo), from, func(t dirTx, from []byte, full func(int) bool) (names []string, more []byte) {
		for k := range t.Entries(inRepos, prefix, from) {
			if full(len(names)) {
				return names, bytes.Clone(k)
			}
			names = append(names, string(k[len(prefix):]))
		}
		return names, nil
	})
}

// Referrers implements [Lister].
func (d *Dir) Referrers(ctx context.Context, repo string, dgst digest.Digest) iter.Seq2[ocispec.Descriptor, error] {
	var prefix []byte
	err := checkContent(ctx, repo, dgst)
	if err == nil {
		subject, _ := contentOf(dgst)
		prefix = linkKey(repo, keyReferrer, subject)
	}
	return descriptors(pages(ctx, d, err, prefix, func(t dirTx, from []byte, full func(int) bool) (list []Info, more []byte) {
		for k := range t.Entries(inRepos, prefix, from) {
			if full(len(list)) {
				return list, bytes.Clone(k)
			}
			if info, ok := t.listed(repo, k[len(prefix):]); ok && info.Subject == dgst {
				list = append(list, info)
			}
		}
		return list, nil
	}))
}

// listed describes the manifest whose digest has a key.
func (t dirTx) listed(repo string, key []byte) (Info, bool) {
	name, ok := digestOfKey(key)
	if !ok {
		return Info{}, false
	}
	c, err := contentOf(name)
	if err != nil {
		return Info{}, false
	}
	info, ok := t.find(repo, c)
	b, known := t.blob(c)
	info.Size = b.size
	return info, ok && known && info.IsManifest()
}

// Manifests implements [ManifestLister]. It does not look at the bytes.
func (d *Dir) Manifests(ctx context.Context, repo string) iter.Seq2[Info, error] {
	prefix := repoKey(repo, keyManifest)
	return pages(ctx, d, checkRepository(repo), prefix, func(t dirTx, from []byte, full func(int) bool) (list []Info, more []byte) {
		for k := range t.Entries(inRepos, prefix, from) {
			if full(len(list)) {
				return list, bytes.Clone(k)
			}
			if info, ok := t.listed(repo, k[len(prefix):]); ok {
				info.Use = d.use(t, repo, info.Digest)
				list = append(list, info)
			}
		}
		return list, nil
	})
}

// Blobs implements [BlobLister]. It does not look at the bytes.
func (d *Dir) Blobs(ctx context.Context, repo string) iter.Seq2[Info, error] {
	prefix := repoKey(repo, keyBlob)
	return pages(ctx, d, checkRepository(repo), prefix, func(t dirTx, from []byte, full func(int) bool) (list []Info, more []byte) {
		for k, source := range t.Entries(inRepos, prefix, from) {
			if full(len(list)) {
				return list, bytes.Clone(k)
			}
			name, ok := digestOfKey(k[len(prefix):])
			c, err := contentOf(name)
			if !ok || err != nil {
				continue
			}
			if b, known := t.blob(c); known {
				info := blobInfo(source, name)
				info.Size = b.size
				list = append(list, info)
			}
		}
		return list, nil
	})
}
