package fleet

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/upstream"
)

// key is a blob of a source. Nothing is shared between sources.
type key struct {
	source upstream.Source
	digest digest.Digest
}

// Rank sorts replicas by who is to fetch a blob: the first one is, as far as it can. All
// versions of this package rank alike, whatever the order of peers.
func Rank(peers []string, s upstream.Source, d digest.Digest) []string {
	type scored struct {
		peer  string
		score uint64
	}
	all := make([]scored, len(peers))
	for i, p := range peers {
		sum := sha256.Sum256([]byte(p + "\x00" + s.Rule + "\x00" + s.String() + "\x00" + d.String()))
		all[i] = scored{p, binary.BigEndian.Uint64(sum[:])}
	}
	slices.SortFunc(all, func(a, b scored) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.peer, b.peer))
	})
	ranked := make([]string, len(all))
	for i, s := range all {
		ranked[i] = s.peer
	}
	return ranked
}
