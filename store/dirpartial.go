package store

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/pullthrough/pullthrough/internal/durable"
)

const (
	partSuffix    = ".part"
	sidecarSuffix = ".json"
	// staleAfter is how long a part is kept after its last checkpoint.
	staleAfter = 24 * time.Hour
	// minPart is how many bytes a part counts at least.
	minPart = 1 << 20
	// maxPartial is MaxPartial if that is zero.
	maxPartial = 64 << 30
)

// part is unfinished content in partial/, which is open or kept for a later spool.
type part struct {
	name string // of its files, without the suffixes
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

// remove removes a part unless a spool has taken it meanwhile. A spool that takes it
// during the removal waits for that, and finds nothing.
func (d *Dir) remove(p part) (freed int64, err error) {
	defer d.locked("partial", p.name).Unlock()
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
	// The sidecar first: it must not outlive what it vouches for.
	if err := d.disk.Remove(d.path("partial", p.name+sidecarSuffix)); err != nil {
		return 0, err
	}
	return p.size, d.disk.Remove(d.path("partial", p.name+partSuffix))
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

// sidecar is the file that vouches for the beginning of a part. It has the names in
// clear, since its own name is a hash of them.
type sidecar struct {
	Repository string        `json:"repository"`
	Origin     string        `json:"origin"`
	Digest     digest.Digest `json:"digest"`
	Front      int64         `json:"front"`
	// Size is a pointer so that a missing size is noticed. Were it taken for 0 or for
	// unknown, bytes after the end of a whole part would be requested for ever.
	Size *int64 `json:"size"`
	Hash []byte `json:"hash"`
}

// name is the name of the files of a spool, without suffixes.
func (k spoolKey) name() string {
	sum := sha256.Sum256([]byte(k.repo + "\x00" + k.origin + "\x00" + string(k.digest)))
	return hex.EncodeToString(sum[:16])
}

// writeSidecar does not sync: a power loss takes no more than the last progress.
func (d *Dir) writeSidecar(path string, k spoolKey, p Progress) error {
	data, err := json.Marshal(sidecar{k.repo, k.origin, k.digest, p.Front, &p.Size, p.Hash})
	if err != nil {
		return err
	}
	return d.disk.WriteFile(path, data, false)
}

// readSidecar returns the progress that a sidecar vouches for. It reports false if the
// sidecar is torn, lacks something or has another key, or the part is shorter. If key
// is nil, any key will do that belongs to the name of the sidecar.
func (d *Dir) readSidecar(path, part string, key *spoolKey) (Progress, bool) {
	data, err := durable.ReadFile(path)
	if err != nil {
		return Progress{}, false
	}
	var s sidecar
	if json.Unmarshal(data, &s) != nil || s.Size == nil || s.Front <= 0 || *s.Size >= 0 && s.Front > *s.Size {
		return Progress{}, false
	}
	is := spoolKey{repo: s.Repository, origin: s.Origin, digest: s.Digest}
	if key == nil {
		if path != d.path("partial", is.name()+sidecarSuffix) {
			return Progress{}, false
		}
	} else if is != *key {
		return Progress{}, false
	}
	if n, err := durable.Size(part); err != nil || n < s.Front {
		return Progress{}, false
	}
	return Progress{Front: s.Front, Size: *s.Size, Hash: s.Hash}, true
}

// clearPartial removes what a former process left and cannot be taken up: temporary
// files, parts without a sidecar that vouches for them, and parts whose last
// checkpoint is older than a day. It keeps the others.
func (d *Dir) clearPartial() error {
	folder, now := d.path("partial"), time.Now()
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	d.partsMu.Lock()
	defer d.partsMu.Unlock()
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), sidecarSuffix)
		if !ok {
			continue
		}
		st, err := e.Info()
		if err != nil || now.Sub(st.ModTime()) > staleAfter {
			continue
		}
		base := d.path("partial", name)
		if _, ok := d.readSidecar(base+sidecarSuffix, base+partSuffix, nil); !ok {
			continue
		}
		if bytes, err := os.Lstat(base + partSuffix); err == nil {
			d.keep(part{name: name, at: st.ModTime(), size: durable.Used(bytes)})
		}
	}
	for _, e := range entries {
		name, _, _ := strings.Cut(e.Name(), ".")
		if _, ok := d.parts[name]; ok {
			continue
		}
		if err := d.disk.Remove(folder + "/" + e.Name()); err != nil {
			return err
		}
	}
	return nil
}
