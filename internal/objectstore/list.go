package objectstore

import (
	"context"
	"errors"
	"iter"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/store"
)

// names yields what the keys below a prefix have behind it, if it comes after last and is
// valid. With a delimiter it yields what they have up to that.
func (s *Store) names(ctx context.Context, prefix, last, delimiter string, valid func(string) bool) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		r := Range{Prefix: prefix, Delimiter: delimiter}
		if last != "" {
			r.After = prefix + last + delimiter
		}
		for key, err := range s.bucket.List(ctx, r) {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield("", err)
				return
			}
			name := strings.TrimPrefix(key, prefix)
			name, folded := strings.CutSuffix(name, delimiter)
			if folded && name > last && valid(name) && !yield(name, nil) {
				return
			}
		}
	}
}

// Repositories implements [store.Lister].
func (s *Store) Repositories(ctx context.Context, last string) iter.Seq2[string, error] {
	valid := func(name string) bool { return store.CheckTag(name, "tag") == nil }
	return s.names(ctx, s.root+"images/", last, "!", valid)
}

// TagNames implements [store.Lister].
func (s *Store) TagNames(ctx context.Context, repo, last string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		key, err := s.tagKey(repo, "tag")
		if err == nil {
			err = store.CheckTag(repo, "tag")
		}
		if err != nil {
			yield("", err)
			return
		}
		valid := func(tag string) bool { return store.CheckTag(repo, tag) == nil }
		s.names(ctx, strings.TrimSuffix(key, "tag"), last, "", valid)(yield)
	}
}

// anyDigest stands for a digest where only the repository is of interest.
const anyDigest = digest.Digest("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")

// words yields the digests whose words are behind a prefix, in their order.
func (s *Store) words(ctx context.Context, prefix string) iter.Seq2[digest.Digest, error] {
	return func(yield func(digest.Digest, error) bool) {
		valid := func(w string) bool { _, ok := fromWord(w); return ok }
		for w, err := range s.names(ctx, prefix, "", "", valid) {
			d, _ := fromWord(w)
			if !yield(d, err) {
				return
			}
		}
	}
}

// links yields the digests of one kind of links of a repository.
func (s *Store) links(ctx context.Context, repo string, manifest bool) iter.Seq2[digest.Digest, error] {
	return func(yield func(digest.Digest, error) bool) {
		key, err := s.linkKey(repo, anyDigest, manifest)
		if err == nil {
			err = checkContent(ctx, repo, anyDigest)
		}
		if err != nil {
			yield("", err)
			return
		}
		s.words(ctx, strings.TrimSuffix(key, word(anyDigest)))(yield)
	}
}

// digests is a list of digests that has yet to be asked for.
type digests func(context.Context) iter.Seq2[digest.Digest, error]

// infos yields what the links of digests say, without those that have gone or are damaged.
func (s *Store) infos(ctx context.Context, repo string, manifest bool, digests digests) iter.Seq2[store.Info, error] {
	read := func(ctx context.Context, d digest.Digest) (store.Info, error) {
		return s.readLink(ctx, repo, d, manifest)
	}
	return func(yield func(store.Info, error) bool) {
		for info, err := range ahead(ctx, digests, read) {
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if !yield(info, err) || err != nil {
				return
			}
		}
	}
}

// Manifests implements [store.ManifestLister].
func (s *Store) Manifests(ctx context.Context, repo string) iter.Seq2[store.Info, error] {
	return s.infos(ctx, repo, true, func(ctx context.Context) iter.Seq2[digest.Digest, error] {
		return s.links(ctx, repo, true)
	})
}

// Blobs implements [store.BlobLister].
func (s *Store) Blobs(ctx context.Context, repo string) iter.Seq2[store.Info, error] {
	return s.infos(ctx, repo, false, func(ctx context.Context) iter.Seq2[digest.Digest, error] {
		return without(s.links(ctx, repo, false), s.links(ctx, repo, true))
	})
}

// without yields what is in all and not in some, of two lists in order.
func without(all, some iter.Seq2[digest.Digest, error]) iter.Seq2[digest.Digest, error] {
	return func(yield func(digest.Digest, error) bool) {
		next, stop := iter.Pull2(some)
		defer stop()
		out, err, more := next()
		for d, failed := range all {
			for failed == nil && err == nil && more && out < d {
				out, err, more = next()
			}
			if failed == nil {
				failed = err
			}
			if failed != nil {
				yield("", failed)
				return
			}
			if (!more || out != d) && !yield(d, nil) {
				return
			}
		}
	}
}

// Referrers implements [store.Lister].
func (s *Store) Referrers(ctx context.Context, repo string, d digest.Digest) iter.Seq2[ocispec.Descriptor, error] {
	return func(yield func(ocispec.Descriptor, error) bool) {
		err := checkContent(ctx, repo, d)
		if err == nil {
			_, err = s.referrerKey(repo, d, anyDigest)
		}
		if err != nil {
			yield(ocispec.Descriptor{}, err)
			return
		}
		prefix, _ := s.referrerKey(repo, d, anyDigest)
		hints := func(ctx context.Context) iter.Seq2[digest.Digest, error] {
			return s.words(ctx, strings.TrimSuffix(prefix, word(anyDigest)))
		}
		for info, err := range s.infos(ctx, repo, true, hints) {
			if err == nil && info.Subject != d {
				continue
			}
			if !yield(info.Descriptor, err) {
				return
			}
		}
	}
}
