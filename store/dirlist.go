package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/internal/ociname"
)

// readNames returns the names in a folder. A folder that is not there has none.
func readNames(folder string) ([]string, error) {
	f, err := os.Open(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return names, nil
}

// hasName reports whether there is something in a folder.
func hasName(folder string) bool {
	f, err := os.Open(folder)
	if err != nil {
		return false
	}
	defer f.Close()
	names, err := f.Readdirnames(1)
	return len(names) > 0 && (err == nil || err == io.EOF)
}

// Repositories implements [Lister]. It holds in memory the names of one folder for
// each level of a name, not all names.
func (d *Dir) Repositories(ctx context.Context, last string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		d.walk(ctx, "", last, func(repo string, err error) bool {
			if err == nil && !hasName(d.path("repos", repo, tagLinks)) && !hasName(d.path("repos", repo, manifestLinks)) {
				return true
			}
			return yield(repo, err)
		})
	}
}

// walk visits the folders that may be repositories below prefix ("" or ending
// in a slash) in the order of the names' bytes. That is not the order of a walk
// over the tree: a-b comes between a and a/b. So every folder is in the list of
// its level twice, as a name and, with a slash, for what is below it.
func (d *Dir) walk(ctx context.Context, prefix, last string, visit func(repo string, err error) bool) bool {
	names, err := readNames(d.path("repos") + "/" + prefix)
	if err != nil {
		return visit("", err)
	}
	list := make([]string, 0, 2*len(names))
	for _, name := range names {
		// The name of a file has no slash, so it is one segment of a repository's
		// name. The folders of links begin with '_', which no segment does.
		if ociname.ValidRepository(name, maxSegment) {
			list = append(list, name, name+"/")
		}
	}
	slices.Sort(list)
	for _, name := range list {
		if err := ctx.Err(); err != nil {
			visit("", err)
			return false
		}
		full := prefix + name
		if strings.HasSuffix(name, "/") {
			if (full > last || strings.HasPrefix(last, full)) && !d.walk(ctx, full, last, visit) {
				return false
			}
		} else if full > last && !visit(full, nil) {
			return false
		}
	}
	return true
}

// TagNames implements [Lister].
func (d *Dir) TagNames(ctx context.Context, repo, last string) iter.Seq2[string, error] {
	return sorted(ctx, func() ([]string, error) {
		if err := checkRepository(repo); err != nil {
			return nil, err
		}
		files, err := readNames(d.path("repos", repo, tagLinks))
		if err != nil {
			return nil, err
		}
		tags := files[:0]
		for _, file := range files {
			if tag, ok := unescape(file); ok && tag > last {
				tags = append(tags, tag)
			}
		}
		return tags, nil
	})
}

// Referrers implements [Lister].
func (d *Dir) Referrers(ctx context.Context, repo string, dgst digest.Digest) iter.Seq2[ocispec.Descriptor, error] {
	names := func() ([]string, error) {
		if err := checkContent(ctx, repo, dgst); err != nil {
			return nil, err
		}
		c, err := contentOf(dgst)
		if err != nil {
			return nil, err
		}
		return readNames(d.referrerFolder(repo, c))
	}
	// A name may be from before a crash, and the manifest not be there.
	return descriptors(d.manifests(ctx, repo, names, func(info Info) bool { return info.Subject == dgst }))
}

// Manifests implements [ManifestLister]. It holds the names of the manifests in memory
// and reads their records one by one. It does not look at their bytes.
func (d *Dir) Manifests(ctx context.Context, repo string) iter.Seq2[Info, error] {
	names := func() ([]string, error) {
		if err := checkRepository(repo); err != nil {
			return nil, err
		}
		return readNames(d.path("repos", repo, manifestLinks))
	}
	return d.manifests(ctx, repo, names, func(Info) bool { return true })
}

// manifests yields the manifests with these names of files for which keep holds, in the
// order of their digests. A name without a record that can be read is skipped.
func (d *Dir) manifests(ctx context.Context, repo string, names func() ([]string, error), keep func(Info) bool) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		for name, err := range sorted(ctx, names) {
			if err != nil {
				yield(Info{}, err)
				return
			}
			c, err := contentOf(digest.Digest(strings.Replace(name, "-", ":", 1)))
			if err != nil {
				continue
			}
			info, err := d.findManifest(repo, c)
			if errors.Is(err, ErrNotFound) || err == nil && !keep(info) {
				continue
			}
			if !yield(info, err) {
				return
			}
		}
	}
}
