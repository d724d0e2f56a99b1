package evict

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// Image is a manifest that is stored in a repository, with what it names.
type Image struct {
	// Rule is the rule of the repository. Of two in one repository, the first added counts.
	Rule       string
	Repository string
	Digest     digest.Digest
	// Bytes is the size of the manifest itself.
	Bytes int64
	// Blobs are its config and its layers. Sizes are those of what is stored.
	Blobs []Blob
	// Children are the manifests that it names if it is an index. Those that are not
	// stored do not count.
	Children []digest.Digest
	// Subject is the manifest that it refers to. If empty, it refers to none.
	Subject digest.Digest
	// Stored is when it was stored.
	Stored time.Time
	Use    Use
	// Pinned says that it must stay now, and with it all that it names.
	Pinned bool
}

// Blob is content that an image names.
type Blob struct {
	Digest digest.Digest
	Bytes  int64
}

// Graph is what a store has, as far as a plan must know it. The zero value is empty and
// ready. It is used by one goroutine at a time. It takes some 60 bytes for each different
// blob, and 250 for each image.
type Graph struct {
	rules, repos names
	ruleOf       []uint32 // by repository
	contents     map[contentID]uint32
	bytes        []int64 // by content
	nodes        []node
	byName       map[nodeName]int32
	blobs        []uint32 // contents that the nodes name, one node after the other, themselves first
	children     []uint32 // contents that the nodes name as manifests
}

// node is an image in a Graph.
type node struct {
	digest     digest.Digest
	stored     int64 // in nanoseconds
	rule, repo uint32
	content    uint32
	subject    uint32 // content, if hasSubject
	blobs      span
	children   span
	use        Use
	hasSubject bool
	pinned     bool
}

// span is a part of a slice.
type span struct{ from, to uint32 }

// nodeName is a repository and a content.
type nodeName struct{ repo, content uint32 }

// contentID is the first half of a digest. It is enough to tell contents apart, and
// halves the largest map of a Graph.
type contentID [16]byte

// Add adds an image and keeps none of its slices. An image that is there already is
// left as it is.
func (g *Graph) Add(image Image) {
	if g.contents == nil {
		g.contents, g.byName = map[contentID]uint32{}, map[nodeName]int32{}
	}
	content := g.content(image.Digest, image.Bytes)
	name := nodeName{g.repos.id(image.Repository), content}
	if _, ok := g.byName[name]; ok {
		return
	}
	g.byName[name] = int32(len(g.nodes))
	if int(name.repo) == len(g.ruleOf) {
		g.ruleOf = append(g.ruleOf, g.rules.id(image.Rule))
	}
	n := node{
		digest: image.Digest, stored: image.Stored.UnixNano(), use: image.Use, pinned: image.Pinned,
		rule: g.ruleOf[name.repo], repo: name.repo, content: content,
	}
	n.blobs.from = uint32(len(g.blobs))
	g.blobs = append(g.blobs, content)
	for _, b := range image.Blobs {
		g.blobs = append(g.blobs, g.content(b.Digest, b.Bytes))
	}
	n.blobs.to = uint32(len(g.blobs))
	n.children.from = uint32(len(g.children))
	for _, d := range image.Children {
		g.children = append(g.children, g.content(d, 0))
	}
	g.children = dedupe(g.children, n.children.from)
	n.children.to = uint32(len(g.children))
	if image.Subject != "" {
		n.subject, n.hasSubject = g.content(image.Subject, 0), true
	}
	g.nodes = append(g.nodes, n)
}

// Len is the number of images.
func (g *Graph) Len() int { return len(g.nodes) }

// content returns the number of a content. Its size is the largest that was named.
func (g *Graph) content(d digest.Digest, bytes int64) uint32 {
	id := newContentID(d)
	c, ok := g.contents[id]
	if !ok {
		c = uint32(len(g.bytes))
		g.contents[id] = c
		g.bytes = append(g.bytes, 0)
	}
	g.bytes[c] = max(g.bytes[c], bytes)
	return c
}

func newContentID(d digest.Digest) (id contentID) {
	const prefix, size = "sha256:", len("sha256:") + 2*sha256.Size
	if s := string(d); len(s) == size && strings.HasPrefix(s, prefix) {
		if _, err := hex.Decode(id[:], []byte(s[len(prefix):][:2*len(id)])); err == nil {
			return id
		}
	}
	sum := sha256.Sum256([]byte(d))
	return contentID(sum[:len(id)])
}

// dedupe sorts s[from:] and removes what is there twice.
func dedupe(s []uint32, from uint32) []uint32 {
	slices.Sort(s[from:])
	return s[:int(from)+len(slices.Compact(s[from:]))]
}

// names numbers strings.
type names struct {
	ids  map[string]uint32
	list []string
}

func (n *names) id(s string) uint32 {
	if n.ids == nil {
		n.ids = map[string]uint32{}
	}
	id, ok := n.ids[s]
	if !ok {
		id = uint32(len(n.list))
		n.ids[s] = id
		n.list = append(n.list, s)
	}
	return id
}
