package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// maxUses is how many uses are noted before they are written by themselves.
const maxUses = 16 << 10

// uses are uses that are not written yet.
type uses struct {
	mu    sync.Mutex
	noted map[useOf]time.Time
}

type useOf struct {
	repo   string
	digest digest.Digest
}

// RecordUse implements [UseRecorder].
func (d *Dir) RecordUse(repo string, dgst digest.Digest) {
	if checkContent(context.Background(), repo, dgst) != nil {
		return
	}
	now := time.Now().Truncate(time.Hour)
	k := useOf{repo, dgst}
	d.uses.mu.Lock()
	if d.uses.noted == nil {
		d.uses.noted = make(map[useOf]time.Time)
	}
	d.uses.noted[k] = now
	many := len(d.uses.noted) >= maxUses
	d.uses.mu.Unlock()
	if many {
		d.flushUses()
	}
}

// takeUses returns what is noted, which is then noted no more.
func (u *uses) take() map[useOf]time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	noted := u.noted
	u.noted = nil
	return noted
}

// flushUses writes what is noted by itself.
func (d *Dir) flushUses() {
	d.uses.mu.Lock()
	none := len(d.uses.noted) == 0
	d.uses.mu.Unlock()
	if !none {
		_ = d.update(func(dirTx) error { return nil })
	}
}

// writeUses writes what is noted, along with a change.
func (d *Dir) writeUses(t dirTx) {
	for k, at := range d.uses.take() {
		c, err := contentOf(k.digest)
		if err != nil || !t.Has(inRepos, linkKey(k.repo, keyManifest, c)) {
			continue
		}
		key := useKey(k.repo, c)
		old := readUse(t.Get(inUses, key))
		if now := old.add(at); now != old {
			t.Put(inUses, key, now.value())
		}
	}
}

// firstUse notes that a manifest is used for the first time, unless it was before.
func (t dirTx) firstUse(repo string, c content) {
	if key := useKey(repo, c); t.Get(inUses, key) == nil {
		t.Put(inUses, key, Use{}.add(time.Now()).value())
	}
}

// use returns the use of a manifest, with what is not written yet.
func (d *Dir) use(t dirTx, repo string, dgst digest.Digest) Use {
	c, err := contentOf(dgst)
	if err != nil {
		return Use{}
	}
	u := readUse(t.Get(inUses, useKey(repo, c)))
	d.uses.mu.Lock()
	at, ok := d.uses.noted[useOf{repo, dgst}]
	d.uses.mu.Unlock()
	if ok {
		u = u.add(at)
	}
	return u
}

func (u Use) value() []byte {
	v := binary.AppendUvarint(nil, uint64(max(0, u.First.Unix())))
	v = binary.AppendUvarint(v, hours(u.Last))
	v = binary.AppendUvarint(v, uint64(u.Hours))
	return binary.AppendUvarint(v, uint64(u.Pause/time.Hour))
}

func hours(t time.Time) uint64 { return uint64(max(0, t.Unix()/3600)) }

func readUse(v []byte) Use {
	var n [4]uint64
	for i := range n {
		x, k := binary.Uvarint(v)
		if k <= 0 || x > 1<<40 {
			return Use{}
		}
		n[i], v = x, v[k:]
	}
	at := func(hours uint64) time.Time { return time.Unix(int64(hours)*3600, 0).UTC() }
	return Use{First: time.Unix(int64(n[0]), 0).UTC(), Last: at(n[1]), Hours: int(min(n[2], 1<<16-1)), Pause: time.Duration(n[3]) * time.Hour}
}

// Size implements [Sizer]. Free is what the file system has beyond MinFree.
func (d *Dir) Size(ctx context.Context) (Size, error) {
	if err := ctx.Err(); err != nil {
		return Size{}, err
	}
	var s Size
	err := d.view(func(t dirTx) error {
		s.Content, _ = binary.Varint(t.Get(inTotals, contentTotal))
		return nil
	})
	var file int64
	if err == nil {
		file, err = d.db.Size()
	}
	if err != nil {
		return Size{}, fmt.Errorf("store: size: %w", storeError(err))
	}
	s.Overhead = file + d.kept.Load()
	s.Free = d.freeBytes()
	return s, nil
}

// RepositorySize implements [Sizer].
func (d *Dir) RepositorySize(ctx context.Context, repo string) (n int64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := checkRepository(repo); err != nil {
		return 0, err
	}
	err = d.view(func(t dirTx) error {
		n, _ = binary.Varint(t.Get(inRepos, sizeKey(repo)))
		return nil
	})
	if err != nil {
		err = fmt.Errorf("store: size of %s: %w", repo, storeError(err))
	}
	return n, err
}
