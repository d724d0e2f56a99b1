package store

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/pullthrough/pullthrough/internal/durable"
)

const (
	partSuffix    = ".part"
	sidecarSuffix = ".json"
)

// sidecar is what vouches for the beginning of a part. The names are there in
// clear since the file's name is a hash.
type sidecar struct {
	Repository string        `json:"repository"`
	Origin     string        `json:"origin"`
	Digest     digest.Digest `json:"digest"`
	Front      int64         `json:"front"`
	// Size is a pointer because one that is missing must be seen: taken for 0 or
	// unknown, a whole part would be asked for beyond its end for ever.
	Size *int64 `json:"size"`
	Hash []byte `json:"hash"`
}

// name is what the files of a spool are called.
func (k spoolKey) name() string {
	sum := sha256.Sum256([]byte(k.repo + "\x00" + k.origin + "\x00" + string(k.digest)))
	return hex.EncodeToString(sum[:16])
}

// writeSidecar needs no sync: what a power loss takes is the last progress.
func (d *Dir) writeSidecar(path string, k spoolKey, p Progress) error {
	data, err := json.Marshal(sidecar{k.repo, k.origin, k.digest, p.Front, &p.Size, p.Hash})
	if err != nil {
		return err
	}
	return d.disk.WriteFile(path, data, false)
}

// readSidecar returns what a sidecar vouches for, false if it is torn, lacks
// something, is about something else, or the part is shorter. A nil key takes
// the sidecar's own.
func (d *Dir) readSidecar(path, part string, key *spoolKey) (Progress, bool) {
	data, err := os.ReadFile(path)
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

// clearPartial removes what cannot be taken up: temporary files, parts that
// nothing vouches for, and whatever has not moved for a day.
func (d *Dir) clearPartial(now time.Time) error {
	folder := d.path("partial")
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	keep := make(map[string]bool)
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
		_, keep[name] = d.readSidecar(base+sidecarSuffix, base+partSuffix, nil)
	}
	for _, e := range entries {
		name, _, _ := strings.Cut(e.Name(), ".")
		if keep[name] {
			continue
		}
		if err := d.disk.Remove(folder + "/" + e.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
