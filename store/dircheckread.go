package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"iter"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/durable"
)

// hash reports whether the bytes of a file have their digest.
func (c *checker) hash(ctx context.Context, k content, path string) (bool, error) {
	f, _, err := durable.OpenRead(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	v := k.digest.Verifier()
	for {
		n, err := io.CopyN(v, f, 1<<20)
		if err == io.EOF {
			return v.Verified(), nil
		}
		if err != nil { // the disk cannot read it
			return false, nil
		}
		if c.pace(ctx, n); ctx.Err() != nil {
			return false, ctx.Err()
		}
	}
}

// pace waits until n more bytes may have been read.
func (c *checker) pace(ctx context.Context, n int64) {
	c.read += n
	if c.o.Rate < 0 {
		return
	}
	due := c.began.Add(time.Duration(float64(c.read) / float64(c.o.Rate) * float64(time.Second)))
	if wait := time.Until(due); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
}

// isLinked reports whether content was linked since its repositories were checked.
func (c *checker) isLinked(ctx context.Context, k content) bool {
	for repo, err := range c.d.everyRepository(ctx) {
		if err != nil {
			return true
		}
		linked := false
		if err := c.d.view(func(t dirTx) error { _, linked = t.find(repo, k); return nil }); err != nil || linked {
			return true
		}
	}
	return false
}

// drop removes damaged content from every repository, unless it was replaced.
func (c *checker) drop(ctx context.Context, k content, same func() bool) error {
	var repos []string
	for repo, err := range c.d.everyRepository(ctx) {
		if err != nil {
			return err
		}
		linked := false
		if err := c.d.view(func(t dirTx) error { _, linked = t.find(repo, k); return nil }); err != nil {
			return err
		}
		if linked {
			repos = append(repos, repo)
		}
	}
	c.d.place.Lock() // nobody puts a new file in its place
	defer c.d.place.Unlock()
	if !same() {
		return nil
	}
	err := c.d.update(func(t dirTx) error {
		for _, repo := range repos {
			t.unlink(repo, k)
		}
		if b, ok := t.blob(k); ok { // its links were not counted right
			t.Delete(inBlobs, k.key())
			t.Delete(inBytes, numberKey(b.number))
			t.total(-b.size)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.d.disk.Remove(c.d.blobPath(k))
}

// files checks that all files are linked.
func (c *checker) files(ctx context.Context) error {
	return c.d.blobFiles(ctx, func(alg string, names []string) error {
		strays, err := c.d.strays(alg, names)
		for _, k := range strays {
			stray, err := c.d.isStray(k)
			if err != nil {
				return err
			}
			if !stray {
				continue // it was being linked
			}
			if err := c.fault(Fault{Digest: k.digest, Problem: "nothing links its file"}, func() error { return c.d.removeFile(k) }); err != nil {
				return err
			}
		}
		return err
	})
}

// size compares the size of a repository with what is in it.
func (c *checker) size(ctx context.Context, repo string) error {
	var had, is int64
	count := func(t dirTx) {
		had, _ = binary.Varint(t.Get(inRepos, sizeKey(repo)))
		is = t.countedSize(repo)
	}
	if err := c.d.view(func(t dirTx) error { count(t); return nil }); err != nil {
		return err
	}
	if had == is {
		return nil
	}
	return c.fault(Fault{Repository: repo, Problem: "its size was not counted right"}, func() error {
		return c.d.update(func(t dirTx) error {
			count(t)
			t.addTo(inRepos, sizeKey(repo), is-had)
			return nil
		})
	})
}

// countedSize adds up what a repository links.
func (t dirTx) countedSize(repo string) (n int64) {
	for _, kind := range []byte{keyManifest, keyBlob} {
		prefix := repoKey(repo, kind)
		for k := range t.Entries(inRepos, prefix, nil) {
			if name, ok := digestOfKey(k[len(prefix):]); ok {
				if c, err := contentOf(name); err == nil {
					b, _ := t.blob(c)
					n += b.size
				}
			}
		}
	}
	return n
}

// everyRepository yields the repositories that have anything, listed or not.
func (d *Dir) everyRepository(ctx context.Context) iter.Seq2[string, error] {
	return pages(ctx, d, nil, []byte{1}, func(t dirTx, from []byte, full func(int) bool) (names []string, more []byte) {
		for k := t.Seek(inRepos, from); k != nil; k = t.Seek(inRepos, from) {
			if full(len(names)) {
				return names, from
			}
			name, _, ok := repoOfKey(k)
			if !ok {
				from = append(bytes.Clone(k), 0)
				continue
			}
			names = append(names, string(name))
			from = append(bytes.Clone(name), 1)
		}
		return names, nil
	})
}

// linkedIn yields the digests of what a repository links.
func (d *Dir) linkedIn(ctx context.Context, repo string) iter.Seq2[digest.Digest, error] {
	return func(yield func(digest.Digest, error) bool) {
		for _, kind := range []byte{keyManifest, keyBlob} {
			prefix := repoKey(repo, kind)
			list := pages(ctx, d, nil, prefix, func(t dirTx, from []byte, full func(int) bool) (names []digest.Digest, more []byte) {
				for k := range t.Entries(inRepos, prefix, from) {
					if full(len(names)) {
						return names, bytes.Clone(k)
					}
					if name, ok := digestOfKey(k[len(prefix):]); ok {
						names = append(names, name)
					}
				}
				return names, nil
			})
			for name, err := range list {
				if !yield(name, err) {
					return
				}
			}
		}
	}
}

// everyContent yields the digests of all content.
func (d *Dir) everyContent(ctx context.Context) iter.Seq2[digest.Digest, error] {
	return pages(ctx, d, nil, []byte{0}, func(t dirTx, from []byte, full func(int) bool) (names []digest.Digest, more []byte) {
		for k := range t.Entries(inBlobs, nil, from) {
			if full(len(names)) {
				return names, bytes.Clone(k)
			}
			if name, ok := digestOfKey(k); ok {
				names = append(names, name)
			}
		}
		return names, nil
	})
}
