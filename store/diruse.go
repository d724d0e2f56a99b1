package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/index"
)

// maxUses is how many uses are noted at most. When there are as many, they are written by
// themselves.
const maxUses = 16 << 10

// uses are uses that are not written yet.
type uses struct {
	mu      sync.Mutex
	noted   map[useOf]time.Time
	writing map[useOf]time.Time // those that a change writes which is not on disk yet
}

type useOf struct {
	repo   string
	digest digest.Digest
}

// RecordUse implements [UseRecorder].
func (d *Dir) RecordUse(repo string, dgst digest.Digest) {
	if checkContent(context.Background(), repo, dgst) == nil && d.uses.note(useOf{repo, dgst}, time.Now()) {
		d.tick.now(d.flushUses)
	}
}

// note notes a use, unless too many are noted. It reports whether this was the last one
// that there was room for.
func (u *uses) note(k useOf, at time.Time) (full bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.noted == nil {
		u.noted = make(map[useOf]time.Time)
	}
	_, again := u.noted[k]
	if !again && len(u.noted) >= maxUses {
		return false // the use that filled it has it written
	}
	u.noted[k] = at.Truncate(time.Hour)
	return !again && len(u.noted) == maxUses
}

// take returns what is noted, for a change that writes it. It returns nil if there is
// nothing, or another change is at it.
func (u *uses) take() map[useOf]time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.writing != nil || len(u.noted) == 0 {
		return nil
	}
	u.writing, u.noted = u.noted, nil
	return u.writing
}

// wrote ends what take began. What could not be written is noted again.
func (u *uses) wrote(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	writing := u.writing
	u.writing = nil
	if err == nil {
		return
	}
	if u.noted == nil {
		u.noted = writing
		return
	}
	for k, at := range writing {
		if _, newer := u.noted[k]; !newer && len(u.noted) < maxUses {
			u.noted[k] = at
		}
	}
}

// last returns the last use of a manifest that is not written yet.
func (u *uses) last(k useOf) (at time.Time, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if at, ok = u.noted[k]; !ok {
		at, ok = u.writing[k]
	}
	return at, ok
}

// flushUses writes what is noted by itself.
func (d *Dir) flushUses() {
	if taken := d.uses.take(); taken != nil {
		d.uses.wrote(d.db.Update(func(t *index.Tx) error {
			dirTx{t}.writeUses(taken)
			return nil
		}))
	}
}

func (t dirTx) writeUses(list map[useOf]time.Time) {
	for k, at := range list {
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
	if at, ok := d.uses.last(useOf{repo, dgst}); ok {
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
