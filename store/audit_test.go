package store

import (
	"encoding/binary"
	"io/fs"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// books is what an audit of a Dir counts by itself.
type books struct {
	links     map[content]map[[16]byte]uint64 // by origin
	repos     map[string]int64                // bytes
	referrers map[string]bool                 // keys
	manifests map[string]bool                 // keys of uses
	bytes     map[string]bool                 // keys
	files     map[string]bool                 // paths
	total     int64
}

// audit checks that everything in a Dir agrees: each link has its content, all that is
// counted is what there is, and nothing is there that nothing needs. It must be at rest.
func audit(t testing.TB, d *Dir) {
	t.Helper()
	b := &books{make(map[content]map[[16]byte]uint64), make(map[string]int64), make(map[string]bool), make(map[string]bool), make(map[string]bool), make(map[string]bool), 0}
	var faults []string
	fault := func(words ...string) { faults = append(faults, strings.Join(words, " ")) }
	err := d.view(func(t dirTx) error {
		b.readLinks(t, fault)
		b.readBlobs(d, t, fault)
		b.compare(t, fault)
		return nil
	})
	if err != nil {
		t.Errorf("audit: %v", err)
	}
	b.compareFiles(d, fault)
	for _, f := range faults {
		t.Errorf("audit: %.300s", f)
	}
}

// readLinks reads what repositories have.
func (b *books) readLinks(t dirTx, fault func(...string)) {
	for k, v := range t.Entries(inRepos, nil, nil) {
		repo, kind, ok := repoOfKey(k)
		if !ok || kind != keyManifest && kind != keyBlob {
			continue
		}
		name, ok := digestOfKey(k[len(repo)+2:])
		c, err := contentOf(name)
		if !ok || err != nil {
			fault("no digest in the key", string(k))
			continue
		}
		info := blobInfo(v, name)
		if kind == keyManifest {
			if info, ok = readManifest(v, name); !ok {
				fault("no manifest", string(k))
			}
			b.manifests[string(useKey(string(repo), c))] = true
			if s, err := contentOf(info.Subject); err == nil {
				b.referrers[string(c.appendKey(linkKey(string(repo), keyReferrer, s)))] = true
			}
			if t.Has(inRepos, linkKey(string(repo), keyBlob, c)) {
				fault("a manifest and a blob", string(k))
			}
		}
		if b.links[c] == nil {
			b.links[c] = make(map[[16]byte]uint64)
		}
		b.links[c][hashOf(info.Origin())]++
		blob, ok := t.blob(c)
		if !ok {
			fault("a link without content", string(k))
		}
		b.repos[string(repo)] += blob.size
	}
}

// readBlobs reads what is known of content.
func (b *books) readBlobs(d *Dir, t dirTx, fault func(...string)) {
	for k, v := range t.Entries(inBlobs, nil, nil) {
		name, _ := digestOfKey(k)
		c, err := contentOf(name)
		blob, ok := readBlob(v)
		if !ok || err != nil {
			fault("an entry that cannot be read", string(k))
			continue
		}
		b.total += blob.size
		counted := make(map[[16]byte]uint64)
		for _, o := range blob.origins {
			counted[o.hash] = o.links
		}
		if !maps.Equal(counted, b.links[c]) {
			fault("the links of", c.hex, "are counted wrong")
		}
		delete(b.links, c)
		if blob.number == 0 {
			b.files[d.blobPath(c)] = true
			if n := sizeOnDisk(d.blobPath(c)); n != blob.size {
				fault("the file", c.hex, "has another size")
			}
			continue
		}
		key := numberKey(blob.number)
		b.bytes[string(key)] = true
		if digest.FromBytes(t.Get(inBytes, key)) != name && c.alg == "sha256" {
			fault("the bytes of", c.hex, "are others")
		}
	}
	for c := range b.links {
		fault("no entry of", c.hex)
	}
}

// compare looks for entries that are too many or missing.
func (b *books) compare(t dirTx, fault func(...string)) {
	for k := range t.Entries(inBytes, nil, nil) {
		if !b.bytes[string(k)] {
			fault("bytes that nothing needs")
		}
	}
	for k := range t.Entries(inUses, nil, nil) {
		if !b.manifests[string(k)] {
			fault("the use of what is not there:", string(k))
		}
	}
	for k, v := range t.Entries(inRepos, nil, nil) {
		switch repo, kind, _ := repoOfKey(k); kind {
		case keyReferrer:
			if !b.referrers[string(k)] {
				fault("a referrer that is not there:", string(k))
			}
			delete(b.referrers, string(k))
		case keySize:
			if n, _ := binary.Varint(v); n != b.repos[string(repo)] || n == 0 {
				fault("the size of", string(repo), "is counted wrong")
			}
			delete(b.repos, string(repo))
		}
	}
	for k := range b.referrers {
		fault("a referrer is missing:", k)
	}
	for repo, n := range b.repos {
		if n != 0 {
			fault("the size of", repo, "is missing")
		}
	}
	if n, _ := binary.Varint(t.Get(inTotals, contentTotal)); n != b.total {
		fault("the total is counted wrong")
	}
}

// compareFiles looks for files that nothing needs.
func (b *books) compareFiles(d *Dir, fault func(...string)) {
	parts := make(map[string]bool)
	_ = d.view(func(t dirTx) error {
		for k := range t.Entries(inPartial, nil, nil) {
			parts[d.partPath(string(k))] = true
		}
		return nil
	})
	for _, name := range []string{"index.db", "index.db.damaged", "lock", "spare"} {
		b.files[d.path(name)] = true
	}
	_ = filepath.WalkDir(d.root, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && !b.files[path] && !parts[path] {
			fault("a stray file:", path)
		}
		delete(parts, path)
		return nil
	})
	for path := range parts {
		fault("a part without a file:", path)
	}
}
