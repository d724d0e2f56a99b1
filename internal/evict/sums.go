package evict

import "slices"

// Sizes are sums over contents. A content that several images name counts once in each
// sum.
type Sizes struct {
	Bytes        int64
	Rules        map[string]int64
	Repositories map[string]int64
}

// Sizes returns what all images take.
func (g *Graph) Sizes() Sizes { return g.sizes(nil) }

// sizes returns what the images take that are not gone. If gone is nil, all are there.
func (g *Graph) sizes(gone []bool) Sizes {
	s := Sizes{Rules: map[string]int64{}, Repositories: map[string]int64{}}
	g.eachContent(gone, func(n *node) uint32 { return n.rule }, func(c uint32, rules []uint32) {
		s.Bytes += g.bytes[c]
		for _, r := range slices.Compact(rules) {
			s.Rules[g.rules.list[r]] += g.bytes[c]
		}
	})
	g.eachContent(gone, func(n *node) uint32 { return n.repo }, func(c uint32, repos []uint32) {
		for _, r := range slices.Compact(repos) {
			s.Repositories[g.repos.list[r]] += g.bytes[c]
		}
	})
	return s
}

// eachContent calls f with each content that is named, and the groups of the nodes that
// name it, in ascending order. f may change them.
func (g *Graph) eachContent(gone []bool, group func(n *node) uint32, f func(content uint32, groups []uint32)) {
	at := make([]uint32, len(g.bytes)+1) // first where the groups of each content end, then where they begin
	g.eachReference(gone, func(_ *node, c uint32) { at[c]++ })
	for c := 1; c < len(at); c++ {
		at[c] += at[c-1]
	}
	groups := make([]uint32, at[len(at)-1])
	g.eachReference(gone, func(n *node, c uint32) {
		at[c]--
		groups[at[c]] = group(n)
	})
	for c := range g.bytes {
		if part := groups[at[c]:at[c+1]]; len(part) > 0 {
			slices.Sort(part)
			f(uint32(c), part)
		}
	}
}

func (g *Graph) eachReference(gone []bool, f func(n *node, content uint32)) {
	for i := range g.nodes {
		if gone == nil || !gone[i] {
			n := &g.nodes[i]
			for _, c := range g.blobs[n.blobs.from:n.blobs.to] {
				f(n, c)
			}
		}
	}
}

// sums are the bytes of what is left while a plan grows.
type sums struct {
	g     *Graph
	refs  []uint32 // by content: the images that name it
	at    []uint32 // by content: where its part of pairs begins
	pairs []pair
	bytes int64
	rules []int64
}

// pair is the number of images of a rule that name a content.
type pair struct{ rule, refs uint32 }

func newSums(g *Graph) *sums {
	s := &sums{g: g, refs: make([]uint32, len(g.bytes)), at: make([]uint32, len(g.bytes)+1), rules: make([]int64, len(g.rules.list))}
	s.pairs = make([]pair, 0, len(g.bytes))
	g.eachContent(nil, func(n *node) uint32 { return n.rule }, func(c uint32, rules []uint32) {
		s.at[c] = uint32(len(s.pairs))
		s.refs[c] = uint32(len(rules))
		s.bytes += g.bytes[c]
		for i, r := range rules {
			if i == 0 || r != rules[i-1] {
				s.pairs = append(s.pairs, pair{rule: r})
				s.rules[r] += g.bytes[c]
			}
			s.pairs[len(s.pairs)-1].refs++
		}
	})
	end := uint32(len(s.pairs))
	s.at[len(g.bytes)] = end
	for c := len(g.bytes) - 1; c >= 0; c-- {
		if s.refs[c] == 0 { // only indexes or referrers name it
			s.at[c] = end
		}
		end = s.at[c]
	}
	return s
}

// charges returns for each image its part of all bytes: those of a content are divided
// among the images that name it.
func (s *sums) charges() []int64 {
	charges := make([]int64, len(s.g.nodes))
	for i := range s.g.nodes {
		n := &s.g.nodes[i]
		for _, c := range s.g.blobs[n.blobs.from:n.blobs.to] {
			charges[i] += s.g.bytes[c] / int64(s.refs[c])
		}
	}
	return charges
}

// remove takes an image out of the sums and returns how many bytes no image names any
// more.
func (s *sums) remove(i int32) (freed int64) {
	n := &s.g.nodes[i]
	for _, c := range s.g.blobs[n.blobs.from:n.blobs.to] {
		if s.refs[c]--; s.refs[c] == 0 {
			freed += s.g.bytes[c]
		}
		pairs := s.pairs[s.at[c]:s.at[c+1]]
		j, _ := slices.BinarySearchFunc(pairs, n.rule, func(p pair, rule uint32) int { return int(p.rule) - int(rule) })
		if pairs[j].refs--; pairs[j].refs == 0 {
			s.rules[n.rule] -= s.g.bytes[c]
		}
	}
	s.bytes -= freed
	return freed
}
