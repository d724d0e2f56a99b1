package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/index"
)

// Fault is damage that [Dir.Check] found.
type Fault struct {
	// Repository and Tag say where it is, as far as it is in one place.
	Repository, Tag string
	// Digest is the content that is damaged. It is empty if the fault is in something
	// else.
	Digest digest.Digest
	// Problem says what is wrong.
	Problem string
	// Repaired says that what was damaged is gone, so that the next pull fetches it again.
	Repaired bool
}

// String describes the fault in one line.
func (f Fault) String() string {
	text := f.Problem
	if f.Digest != "" {
		text = f.Digest.String() + ": " + text
	}
	if f.Tag != "" {
		text = f.Repository + ":" + f.Tag + ": " + text
	} else if f.Repository != "" {
		text = f.Repository + ": " + text
	}
	if f.Repaired {
		text += " (repaired)"
	}
	return text
}

// CheckOptions say how [Dir.Check] works.
type CheckOptions struct {
	// Repair removes what is damaged, so that the next pull fetches it again.
	Repair bool
	// Rate is how many bytes of content are read in a second. If zero, it is 32 MiB. If
	// negative, there is no limit.
	Rate int64
}

// checkRate is CheckOptions.Rate if that is zero.
const checkRate = 32 << 20

// Check reads everything that is stored, compares it with its checksums and digests, and
// calls found with each fault. Other calls go on meanwhile. It holds some 40 bytes in
// memory for each link. The error says why it could not go on.
func (d *Dir) Check(ctx context.Context, o CheckOptions, found func(Fault)) error {
	if o.Rate == 0 {
		o.Rate = checkRate
	}
	c := &checker{d: d, o: o, found: found, linked: map[[16]byte]bool{}, began: time.Now()}
	for _, step := range []func(context.Context) error{c.index, c.repositories, c.contents, c.files} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("store: check: %w", storeError(err))
		}
	}
	return nil
}

// checkedTotal is the key of the time when the last check in the background ended, in
// seconds since 1970.
var checkedTotal = []byte("checked")

// checkDue reports whether it is time for a check in the background.
func (d *Dir) checkDue(now time.Time) bool {
	if d.CheckEvery <= 0 {
		return false
	}
	var last int64
	err := d.view(func(t dirTx) error { last, _ = binary.Varint(t.Get(inTotals, checkedTotal)); return nil })
	age := now.Sub(time.Unix(last, 0))
	return err == nil && (age >= d.CheckEvery || age < 0) // a clock that was set back
}

// checkNow checks and repairs everything, and logs the faults.
func (d *Dir) checkNow(ctx context.Context) {
	faults := 0
	err := d.Check(ctx, CheckOptions{Repair: true}, func(f Fault) {
		faults++
		d.log().Error("the store is damaged", "fault", f.String())
	})
	if err == nil {
		err = d.update(func(t dirTx) error {
			t.Put(inTotals, checkedTotal, binary.AppendVarint(nil, time.Now().Unix()))
			return nil
		})
	}
	if err != nil && ctx.Err() == nil {
		d.log().Error("the store cannot be checked", "err", err)
		return
	}
	d.log().Info("the store was checked", "faults", faults)
}

// checker is a check while it runs. It is used by one goroutine.
type checker struct {
	d      *Dir
	o      CheckOptions
	found  func(Fault)
	linked map[[16]byte]bool // content that some repository links
	began  time.Time
	read   int64 // bytes of content
}

// fault reports a fault. If repair is not nil, and repairs are wanted, it makes the fault
// good, unless that turns out not to be there any more.
func (c *checker) fault(f Fault, repair func() error) error {
	if repair != nil && c.o.Repair {
		if err := repair(); err != nil {
			return err
		}
		f.Repaired = true
	}
	c.found(f)
	return nil
}

// index checks the pages and the checksums of the database.
func (c *checker) index(ctx context.Context) error {
	type entry struct {
		bucket index.Bucket
		key    []byte
	}
	var damaged []entry
	var pages []error
	err := c.d.db.Check(func(err error) { pages = append(pages, err) },
		func(b index.Bucket, key []byte) { damaged = append(damaged, entry{b, bytes.Clone(key)}) })
	if err != nil {
		return err
	}
	for _, p := range pages {
		if err := c.fault(Fault{Problem: "index.db: " + p.Error()}, nil); err != nil {
			return err
		}
	}
	for _, e := range damaged {
		if err := ctx.Err(); err != nil {
			return err
		}
		f := Fault{Problem: fmt.Sprintf("index.db: an entry of %s does not match its checksum", c.d.indexOptions().Buckets[e.bucket])}
		if repo, _, ok := repoOfKey(e.key); ok && e.bucket == inRepos {
			f.Repository = string(repo)
		}
		err := c.fault(f, func() error {
			return c.d.update(func(t dirTx) error {
				if t.Get(e.bucket, e.key) == nil { // it may have been written again
					t.Delete(e.bucket, e.key)
				}
				return nil
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// repositories checks that what tags and links name is there, and counts again.
func (c *checker) repositories(ctx context.Context) error {
	for repo, err := range c.d.everyRepository(ctx) {
		if err != nil {
			return err
		}
		for _, check := range []func(context.Context, string) error{c.links, c.tags, c.size} {
			if err := check(ctx, repo); err != nil {
				return err
			}
		}
	}
	return nil
}

// links checks that linked content is known.
func (c *checker) links(ctx context.Context, repo string) error {
	for name, err := range c.d.linkedIn(ctx, repo) {
		if err != nil {
			return err
		}
		k, _ := contentOf(name)
		known := false
		if err := c.d.view(func(t dirTx) error { _, known = t.blob(k); return nil }); err != nil {
			return err
		}
		if c.linked[hashOf(string(name))] = true; known {
			continue
		}
		err := c.fault(Fault{Repository: repo, Digest: name, Problem: "it is linked and not there"}, func() error {
			return c.d.update(func(t dirTx) error {
				if _, known := t.blob(k); !known {
					t.unlink(repo, k)
				}
				return nil
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// tags checks that what tags point to is linked.
func (c *checker) tags(ctx context.Context, repo string) error {
	for name, err := range c.d.TagNames(ctx, repo, "") {
		if err != nil {
			return err
		}
		tag, lacks := Tag{}, false
		look := func(t dirTx) {
			var ok bool
			if tag, ok = t.tag(repo, name); ok {
				k, _ := contentOf(tag.Digest)
				_, linked := t.find(repo, k)
				_, known := t.blob(k)
				lacks = !linked || !known
			}
		}
		if err := c.d.view(func(t dirTx) error { look(t); return nil }); err != nil {
			return err
		}
		if !lacks {
			continue
		}
		err := c.fault(Fault{Repository: repo, Tag: name, Digest: tag.Digest, Problem: "the tag points to what is not there"}, func() error {
			return c.d.update(func(t dirTx) error {
				if look(t); lacks {
					t.Delete(inRepos, tagKey(repo, name))
				}
				return nil
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// contents checks the bytes of all content.
func (c *checker) contents(ctx context.Context) error {
	for name, err := range c.d.everyContent(ctx) {
		if err != nil {
			return err
		}
		k, _ := contentOf(name)
		problem, same, err := c.bytes(ctx, k)
		if err != nil {
			return err
		}
		if problem == "" {
			continue
		}
		if err := c.fault(Fault{Digest: name, Problem: problem}, func() error { return c.drop(ctx, k, same) }); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// bytes checks the bytes of content. same reports later whether they are still those that
// were read.
func (c *checker) bytes(ctx context.Context, k content) (problem string, same func() bool, err error) {
	var b blob
	var data []byte
	known := false
	err = c.d.view(func(t dirTx) error {
		if b, known = t.blob(k); known && b.number != 0 {
			data = bytes.Clone(t.Get(inBytes, numberKey(b.number)))
		}
		return nil
	})
	switch {
	case err != nil || !known: // it was deleted meanwhile
		return "", nil, err
	case !c.linked[hashOf(string(k.digest))] && !c.isLinked(ctx, k):
		return "no repository links it", func() bool { return true }, nil
	case b.number != 0:
		c.pace(ctx, int64(len(data)))
		if int64(len(data)) != b.size || k.digest.Algorithm().FromBytes(data) != k.digest {
			return "its bytes are damaged", func() bool { return true }, nil
		}
		return "", nil, nil
	}
	return c.file(ctx, k, b.size)
}

// file checks the file of content.
func (c *checker) file(ctx context.Context, k content, size int64) (problem string, same func() bool, err error) {
	path := c.d.blobPath(k)
	was, err := os.Lstat(path)
	same = func() bool {
		now, err := os.Lstat(path)
		return was == nil || err == nil && os.SameFile(was, now)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "its file is not there", same, nil
	case err != nil:
		return "", nil, err
	case !was.Mode().IsRegular() || was.Size() != size:
		return fmt.Sprintf("its file has %d bytes instead of %d", was.Size(), size), same, nil
	}
	good, err := c.hash(ctx, k, path)
	if err != nil || good {
		return "", nil, err
	}
	return "its file is damaged", same, nil
}
