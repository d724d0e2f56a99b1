package store

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash/fnv"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/durable"
	"github.com/pullthrough/pullthrough/internal/index"
)

const (
	partSuffix = ".part"
	// staleAfter is how long a part is kept after its last checkpoint.
	staleAfter = 24 * time.Hour
	// minPart is how many bytes a part counts at least.
	minPart = 1 << 20
	// maxPartial is MaxPartial if that is zero.
	maxPartial = 64 << 30
)

// part is unfinished content in partial/, which is open or kept for a later spool.
type part struct {
	name string // of its file, without the suffix, and of its entry in the index
	open bool
	at   time.Time // of its last checkpoint
	size int64     // on the disk, if it is not open
}

func (p part) counts() int64 { return max(p.size, minPart) }

// take opens a part for a spool. It reports false if the part is open already.
func (d *Dir) take(name string) (part, bool) {
	d.partsMu.Lock()
	defer d.partsMu.Unlock()
	p, ok := d.parts[name]
	if p.open {
		return p, false
	}
	if ok {
		d.kept.Add(-p.counts())
	}
	p.name, p.open = name, true
	d.parts[name] = p
	return p, true
}

// leave ends what take began. A part that is kept waits for the next spool.
func (d *Dir) leave(p part, kept bool) {
	d.partsMu.Lock()
	delete(d.parts, p.name)
	if kept {
		d.keep(p)
	}
	d.partsMu.Unlock()
	if kept {
		d.bound()
	}
}

// keep notes a part that is not open. d.partsMu is held.
func (d *Dir) keep(p part) {
	p.open = false
	d.parts[p.name] = p
	d.kept.Add(p.counts())
}

// drop removes parts that are not open, the oldest first, as long as due reports
// true, and returns how many bytes that freed.
func (d *Dir) drop(due func(p part) bool) (freed int64, err error) {
	var idle []part
	d.partsMu.Lock()
	for _, p := range d.parts {
		if !p.open {
			idle = append(idle, p)
		}
	}
	d.partsMu.Unlock()
	slices.SortFunc(idle, func(a, b part) int { return a.at.Compare(b.at) })
	for _, p := range idle {
		if !due(p) {
			break
		}
		n, err := d.remove(p)
		if err != nil {
			return freed, err
		}
		freed += n
	}
	return freed, nil
}

// lockPart locks the name of a part, and returns the lock.
func (d *Dir) lockPart(name string) *sync.Mutex {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	mu := &d.partial[h.Sum32()%uint32(len(d.partial))]
	mu.Lock()
	return mu
}

func (d *Dir) partPath(name string) string { return d.path("partial", name+partSuffix) }

// remove removes a part unless a spool has taken it meanwhile. A spool that takes it
// during the removal waits for that, and finds nothing.
func (d *Dir) remove(p part) (freed int64, err error) {
	defer d.lockPart(p.name).Unlock()
	d.partsMu.Lock()
	same := d.parts[p.name] == p
	if same {
		delete(d.parts, p.name)
		d.kept.Add(-p.counts())
	}
	d.partsMu.Unlock()
	if !same {
		return 0, nil
	}
	return p.size, d.removePart(p.name)
}

// removePart removes the entry of a part, then its file: the entry must not outlive what
// it vouches for.
func (d *Dir) removePart(name string) error {
	known := false
	err := d.view(func(t dirTx) error { known = t.Has(inPartial, []byte(name)); return nil })
	if known && err == nil {
		err = d.db.Free(func(t *index.Tx) error { t.Delete(inPartial, []byte(name)); return nil })
	}
	if err != nil {
		return err
	}
	return d.disk.Remove(d.partPath(name))
}

// clearStale removes the parts whose last checkpoint is older than a day.
func (d *Dir) clearStale() (freed int64, err error) {
	now := time.Now()
	return d.drop(func(p part) bool { return now.Sub(p.at) > staleAfter })
}

// bound removes the oldest parts while more is kept than MaxPartial.
func (d *Dir) bound() {
	limit := d.MaxPartial
	if limit == 0 {
		limit = maxPartial
	}
	if limit >= 0 && d.kept.Load() > limit {
		_, _ = d.drop(func(part) bool { return d.kept.Load() > limit })
	}
}

// progressRecord is the entry that vouches for the beginning of a part.
type progressRecord struct {
	Repository string        `json:"repository"`
	Origin     string        `json:"origin"`
	Digest     digest.Digest `json:"digest"`
	Front      int64         `json:"front"`
	// Size is a pointer so that a missing size is noticed. Were it taken for 0 or for
	// unknown, bytes after the end of a whole part would be requested for ever.
	Size *int64    `json:"size"`
	Hash []byte    `json:"hash"`
	At   time.Time `json:"at"`
	// Spans are the parts beyond Front.
	Spans []Span `json:"spans,omitempty"`
}

// name is the name of the part of a spool.
func (k spoolKey) name() string {
	sum := sha256.Sum256([]byte(k.repo + "\x00" + k.origin + "\x00" + string(k.digest)))
	return hex.EncodeToString(sum[:16])
}

// writeProgress vouches for the beginning of a part, which is on disk.
func (d *Dir) writeProgress(name string, k spoolKey, p Progress) error {
	data, err := json.Marshal(progressRecord{k.repo, k.origin, k.digest, p.Front, &p.Size, p.Hash, time.Now().UTC(), p.Spans})
	if err != nil {
		return err
	}
	return d.update(func(t dirTx) error { t.Put(inPartial, []byte(name), data); return nil })
}

// readProgress returns the progress that the index vouches for. It reports false if
// there is none, or it lacks something or has another key, or the file is shorter. If
// key is nil, any key will do that belongs to the name.
func (d *Dir) readProgress(name string, key *spoolKey) (Progress, bool) {
	var r progressRecord
	err := d.view(func(t dirTx) error { return json.Unmarshal(t.Get(inPartial, []byte(name)), &r) })
	if err != nil {
		return Progress{}, false
	}
	p, ok := r.progress(name, key)
	n, err := durable.Size(d.partPath(name))
	if err != nil || n < p.Front {
		return Progress{}, false
	}
	for p.end() > n {
		p.Spans = p.Spans[:len(p.Spans)-1]
	}
	return p, ok
}

func (r progressRecord) progress(name string, key *spoolKey) (Progress, bool) {
	if r.Size == nil || r.Front <= 0 || *r.Size >= 0 && r.Front > *r.Size {
		return Progress{}, false
	}
	is := spoolKey{repo: r.Repository, origin: r.Origin, digest: r.Digest}
	if key == nil && is.name() != name || key != nil && is != *key {
		return Progress{}, false
	}
	p := Progress{Front: r.Front, Size: *r.Size, Hash: r.Hash, Spans: r.Spans}
	if checkProgress(p, math.MaxInt64) != nil {
		p.Spans = nil // they are a saving, no more
	}
	return p, true
}

// clearPartial removes what a former process left and cannot be taken up: temporary
// files, parts that nothing vouches for, and parts whose last checkpoint is older than
// a day. It keeps the others.
func (d *Dir) clearPartial() error {
	stale, err := d.enterParts()
	if err != nil {
		return err
	}
	names, err := readNames(d.path("partial"))
	if err != nil {
		return err
	}
	for _, file := range names {
		if name, ok := strings.CutSuffix(file, partSuffix); ok && d.parts[name].name != "" {
			continue
		}
		if err := d.disk.Remove(d.path("partial", file)); err != nil {
			return err
		}
	}
	if len(stale) == 0 {
		return nil
	}
	return d.db.Free(func(t *index.Tx) error {
		for _, name := range stale {
			t.Delete(inPartial, []byte(name))
		}
		return nil
	})
}

// enterParts notes the parts that can be taken up, and returns the names of the others
// that the index has.
func (d *Dir) enterParts() (stale []string, err error) {
	now := time.Now()
	d.partsMu.Lock()
	defer d.partsMu.Unlock()
	err = d.view(func(t dirTx) error {
		for key, value := range t.Entries(inPartial, nil, nil) {
			name := string(key)
			var r progressRecord
			_ = json.Unmarshal(value, &r) // what it lacks is noticed
			p, ok := r.progress(name, nil)
			st, err := os.Lstat(d.partPath(name))
			if !ok || err != nil || !st.Mode().IsRegular() || st.Size() < p.Front || now.Sub(r.At) > staleAfter {
				stale = append(stale, name)
				continue
			}
			d.keep(part{name: name, at: r.At, size: durable.Used(st)})
		}
		return nil
	})
	return stale, err
}
