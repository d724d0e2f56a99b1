package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The kinds of the keys of a repository. A repository is listed if its first key is a
// manifest or a tag, so these two come first.
const (
	keyManifest = 'm' // digest
	keyTag      = 't' // tag
	keyReferrer = 'u' // subject, digest
	keyBlob     = 'x' // digest
	keySize     = 'z' // nothing: the bytes of what is linked
)

// content is one digest.
type content struct {
	digest   digest.Digest
	alg, hex string
}

func contentOf(d digest.Digest) (content, error) {
	alg, hex, err := checkDigest(d)
	return content{d, alg, hex}, err
}

// appendKey appends a digest: a letter that tells the algorithm, and its bytes.
func (c content) appendKey(b []byte) []byte {
	b = append(b, c.alg[len("sha")])
	b, _ = hex.AppendDecode(b, []byte(c.hex)) // checkDigest has seen hex digits
	return b
}

func (c content) key() []byte { return c.appendKey(make([]byte, 0, 65)) }

// digestOfKey is the inverse of appendKey. It reports false for other bytes.
func digestOfKey(b []byte) (digest.Digest, bool) {
	switch {
	case len(b) == 33 && b[0] == '2':
		return digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(b[1:])), true
	case len(b) == 65 && b[0] == '5':
		return digest.NewDigestFromEncoded(digest.SHA512, hex.EncodeToString(b[1:])), true
	}
	return "", false
}

// repoKey begins a key of a repository. The zero byte is below all that names
// have, so that keys are in the order of the names.
func repoKey(repo string, kind byte) []byte {
	b := make([]byte, 0, len(repo)+2+130)
	return append(append(b, repo...), 0, kind)
}

// repoOfKey returns the repository and the kind of a key.
func repoOfKey(k []byte) (repo []byte, kind byte, ok bool) {
	i := bytes.IndexByte(k, 0)
	if i < 0 || i+1 >= len(k) {
		return nil, 0, false
	}
	return k[:i], k[i+1], true
}

func linkKey(repo string, kind byte, c content) []byte { return c.appendKey(repoKey(repo, kind)) }
func tagKey(repo, tag string) []byte                   { return append(repoKey(repo, keyTag), tag...) }
func sizeKey(repo string) []byte                       { return repoKey(repo, keySize) }

func recordKey(kind, key string) []byte {
	b := make([]byte, 0, len(kind)+1+len(key))
	return append(append(append(b, kind...), 0), key...)
}

func useKey(repo string, c content) []byte {
	b := make([]byte, 0, len(repo)+1+65)
	return c.appendKey(append(append(b, repo...), 0))
}

func numberKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// pack makes one value of strings.
func pack(parts ...string) []byte {
	n := 0
	for _, p := range parts {
		n += 3 + len(p)
	}
	b := make([]byte, 0, n)
	for _, p := range parts {
		b = append(binary.AppendUvarint(b, uint64(len(p))), p...)
	}
	return b
}

// unpack is the inverse of pack, for as many strings as there are parts.
func unpack(b []byte, parts ...*string) bool {
	text := string(b) // one copy, which all of them share
	at := 0
	for _, p := range parts {
		n, k := binary.Uvarint(b[at:])
		if k <= 0 || n > uint64(len(b)-at-k) {
			return false
		}
		at += k
		*p = text[at : at+int(n)]
		at += int(n)
	}
	return at == len(b)
}

// manifestValue is the value of a manifest's link.
func manifestValue(info Info) []byte {
	notes, own := "", ""
	if len(info.Annotations) > 0 {
		text, _ := json.Marshal(info.Annotations) // strings
		notes = string(text)
	}
	if info.Manifest {
		own = "m"
	}
	return pack(info.MediaType, own, info.Source, string(info.Subject), info.ArtifactType, notes)
}

func readManifest(v []byte, d digest.Digest) (Info, bool) {
	var info Info
	var own, subject, notes string
	if v == nil || !unpack(v, &info.MediaType, &own, &info.Source, &subject, &info.ArtifactType, &notes) {
		return Info{}, false
	}
	if notes != "" && json.Unmarshal([]byte(notes), &info.Annotations) != nil {
		return Info{}, false
	}
	info.Manifest, info.Subject, info.Digest, info.Size = own != "", digest.Digest(subject), d, -1
	return info, info.IsManifest()
}

func blobInfo(source []byte, d digest.Digest) Info {
	return Info{Source: string(source), Descriptor: ocispec.Descriptor{MediaType: blobMediaType, Digest: d, Size: -1}}
}

// blob is what is known of content apart from repositories.
type blob struct {
	size    int64
	number  uint64 // of the small bytes; 0: it is a file
	origins []originLinks
}

// originLinks is how many links have a source of an origin.
type originLinks struct {
	hash  [16]byte
	links uint64
}

func hashOf(origin string) (h [16]byte) {
	sum := sha256.Sum256([]byte(origin))
	copy(h[:], sum[:])
	return h
}

func (b *blob) value() []byte {
	v := binary.AppendUvarint(make([]byte, 0, 40), uint64(b.size))
	v = binary.AppendUvarint(v, b.number)
	for _, o := range b.origins {
		v = binary.AppendUvarint(append(v, o.hash[:]...), o.links)
	}
	return v
}

func readBlob(v []byte) (b blob, ok bool) {
	size, n := binary.Uvarint(v)
	if n <= 0 || int64(size) < 0 {
		return b, false
	}
	number, m := binary.Uvarint(v[n:])
	if m <= 0 {
		return b, false
	}
	b.size, b.number = int64(size), number
	for v = v[n+m:]; len(v) > len(originLinks{}.hash); {
		var o originLinks
		h := copy(o.hash[:], v)
		links, n := binary.Uvarint(v[h:])
		if n <= 0 {
			return b, false
		}
		o.links = links
		b.origins = append(b.origins, o)
		v = v[h+n:]
	}
	return b, len(v) == 0
}

// has reports whether content came from an origin.
func (b *blob) has(origin string) bool {
	h := hashOf(origin)
	for _, o := range b.origins {
		if o.hash == h {
			return true
		}
	}
	return false
}

// count counts n more links of the origin of a source.
func (b *blob) count(source string, n int) {
	h := hashOf(Info{Source: source}.Origin())
	for i := range b.origins {
		if o := &b.origins[i]; o.hash == h {
			if o.links += uint64(n); o.links == 0 {
				b.origins = append(b.origins[:i], b.origins[i+1:]...)
			}
			return
		}
	}
	if n > 0 {
		b.origins = append(b.origins, originLinks{h, uint64(n)})
	}
}
