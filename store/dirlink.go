package store

import (
	"bytes"
	"encoding/binary"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/index"
)

// dirTx is a transaction of the index of a Dir.
type dirTx struct{ *index.Tx }

// find returns what a repository says about content.
func (t dirTx) find(repo string, c content) (Info, bool) {
	key := linkKey(repo, keyManifest, c)
	if v := t.Get(inRepos, key); v != nil {
		if info, ok := readManifest(v, c.digest); ok {
			return info, true
		}
	}
	key[len(repo)+1] = keyBlob
	if v := t.Get(inRepos, key); v != nil {
		return blobInfo(v, c.digest), true
	}
	return Info{}, false
}

// blob returns what is known of content apart from repositories.
func (t dirTx) blob(c content) (blob, bool) { return readBlob(t.Get(inBlobs, c.key())) }

// keep keeps and links bytes, and reports whether a file of them is to be removed.
func (t dirTx) keep(repo string, c content, info Info, data []byte) (file bool) {
	b, known := t.blob(c)
	file = known && b.number == 0
	if !known || file {
		b.number = t.Next(inBytes, numberKey)
	}
	if !bytes.Equal(t.Get(inBytes, numberKey(b.number)), data) { // what is there may be damaged
		t.Put(inBytes, numberKey(b.number), data)
	}
	t.resize(&b, int64(len(data)), known)
	t.link(repo, c, info, b)
	return file
}

// keepFile links content whose file is in its place.
func (t dirTx) keepFile(repo string, c content, info Info) {
	b, known := t.blob(c)
	if b.number != 0 {
		t.Delete(inBytes, numberKey(b.number))
	}
	b.number = 0
	t.resize(&b, info.Size, known)
	t.link(repo, c, info, b)
}

// resize sets the size of content and counts its bytes.
func (t dirTx) resize(b *blob, size int64, known bool) {
	had := int64(0)
	if known {
		had = b.size
	}
	if had != size {
		t.total(size - had)
	}
	b.size = size
}

// contentTotal is the key of the bytes of all content, each piece counted once.
var contentTotal = []byte("content")

func (t dirTx) total(n int64) { t.addTo(inTotals, contentTotal, n) }

// addTo adds to a number. One that is zero has no entry.
func (t dirTx) addTo(b index.Bucket, key []byte, n int64) {
	sum, _ := binary.Varint(t.Get(b, key))
	if sum += n; sum <= 0 {
		t.Delete(b, key)
		return
	}
	t.Put(b, key, binary.AppendVarint(nil, sum))
}

// link links content in repo, as a manifest if info is that of one. Once content is a
// manifest, it stays one.
func (t dirTx) link(repo string, c content, info Info, b blob) {
	before := t.Get(inBlobs, c.key())
	mkey, bkey := linkKey(repo, keyManifest, c), linkKey(repo, keyBlob, c)
	old, was := t.find(repo, c)
	switch {
	case was && old.IsManifest() && !info.IsManifest():
	case info.IsManifest():
		if now := manifestValue(info); !bytes.Equal(t.Get(inRepos, mkey), now) {
			t.Put(inRepos, mkey, now)
		}
		t.Delete(inRepos, bkey)
		t.refer(repo, c, old.Subject, info.Subject)
		t.counted(repo, &b, old, was, info)
		t.firstUse(repo, c)
	default:
		if v := t.Get(inRepos, bkey); v == nil || string(v) != info.Source {
			t.Put(inRepos, bkey, []byte(info.Source))
		}
		t.Delete(inRepos, mkey) // a damaged one
		t.counted(repo, &b, old, was, info)
	}
	if now := b.value(); !bytes.Equal(now, before) {
		t.Put(inBlobs, c.key(), now)
	}
}

// counted counts a link that takes the place of old, if there was one.
func (t dirTx) counted(repo string, b *blob, old Info, was bool, info Info) {
	counts := was && b.has(old.Origin()) // not if the entry of the content was damaged
	if counts && old.Source == info.Source {
		return
	}
	b.count(info.Source, 1)
	if counts {
		b.count(old.Source, -1)
	} else if !was {
		t.addTo(inRepos, sizeKey(repo), b.size)
	}
}

// refer moves a manifest from the referrers of one subject to those of another.
func (t dirTx) refer(repo string, c content, old, now digest.Digest) {
	if s, err := contentOf(old); err == nil && old != now {
		t.Delete(inRepos, c.appendKey(linkKey(repo, keyReferrer, s)))
	}
	if s, err := contentOf(now); err == nil {
		if key := c.appendKey(linkKey(repo, keyReferrer, s)); t.Get(inRepos, key) == nil {
			t.Put(inRepos, key, nil)
		}
	}
}

// unlink takes content away from a repository, and reports whether its file is to
// be removed.
func (t dirTx) unlink(repo string, c content) (file bool) {
	info, ok := t.find(repo, c)
	t.Delete(inRepos, linkKey(repo, keyManifest, c))
	t.Delete(inRepos, linkKey(repo, keyBlob, c))
	t.Delete(inUses, useKey(repo, c))
	if !ok {
		return false
	}
	t.refer(repo, c, info.Subject, "")
	b, known := t.blob(c)
	if !known {
		return false
	}
	t.addTo(inRepos, sizeKey(repo), -b.size)
	if b.count(info.Source, -1); len(b.origins) > 0 {
		t.Put(inBlobs, c.key(), b.value())
		return false
	}
	t.Delete(inBlobs, c.key())
	t.total(-b.size)
	t.Delete(inBytes, numberKey(b.number))
	return b.number == 0
}
