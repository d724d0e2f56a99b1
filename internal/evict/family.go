package evict

import (
	"cmp"
	"slices"
)

// family knows which images are left, and which of them go together.
//
// Only what is free may go: an image of which no part is pinned, and an index only if
// each of its children that are left has another index left. The rest of the index goes
// with its last child.
type family struct {
	g         *Graph
	children  lists // of an index: what it names
	parents   lists // of a child: the indexes that name it
	referrers lists // of a subject: the images that refer to it and are no indexes
	pinned    []bool
	gone      []bool
	nChildren []int32 // how many children are left
	nParents  []int32 // how many parents are left
	nOnly     []int32 // how many of the children that are left have no other parent

	// Scratch of unit.
	unitID  int32
	inUnit  []int32 // the last unit that a node was in
	counted []int32 // the unit that nInUnit is of
	nInUnit []int32 // how many children are in that unit
	members []int32
	ordered []int32
	emitted []int32
}

// lists is a list of nodes for each node.
type lists struct {
	at   []uint32
	list []int32
}

func (l lists) of(i int32) []int32 { return l.list[l.at[i]:l.at[i+1]] }

// newLists makes a list for each node of g, in the order of the digests, so that plans do
// not depend on the order in which images were added. each calls its function with each
// pair of a node and an entry of its list, and does so twice.
func newLists(g *Graph, each func(f func(node, entry int32))) lists {
	n := len(g.nodes)
	at := make([]uint32, n+1)
	each(func(node, _ int32) { at[node]++ })
	for i := 1; i <= n; i++ {
		at[i] += at[i-1]
	}
	list := make([]int32, at[n])
	each(func(node, entry int32) {
		at[node]--
		list[at[node]] = entry
	})
	l := lists{at, list}
	for i := range g.nodes {
		slices.SortFunc(l.of(int32(i)), func(a, b int32) int { return cmp.Compare(g.nodes[a].digest, g.nodes[b].digest) })
	}
	return l
}

func newFamily(g *Graph) *family {
	n := len(g.nodes)
	f := &family{
		g: g, pinned: make([]bool, n), gone: make([]bool, n),
		nChildren: make([]int32, n), nParents: make([]int32, n), nOnly: make([]int32, n),
		inUnit: make([]int32, n), counted: make([]int32, n), nInUnit: make([]int32, n), emitted: make([]int32, n),
	}
	f.children = newLists(g, func(add func(node, entry int32)) {
		for i := range g.nodes {
			for _, c := range g.children[g.nodes[i].children.from:g.nodes[i].children.to] {
				if child, ok := g.byName[nodeName{g.nodes[i].repo, c}]; ok && child != int32(i) {
					add(int32(i), child)
				}
			}
		}
	})
	f.parents = newLists(g, func(add func(node, entry int32)) {
		for i := range g.nodes {
			for _, child := range f.children.of(int32(i)) {
				add(child, int32(i))
			}
		}
	})
	f.referrers = newLists(g, func(add func(node, entry int32)) {
		for i := range g.nodes {
			if !g.nodes[i].hasSubject || len(f.children.of(int32(i))) > 0 {
				continue
			}
			if subject, ok := g.byName[nodeName{g.nodes[i].repo, g.nodes[i].subject}]; ok && subject != int32(i) {
				add(subject, int32(i))
			}
		}
	})
	f.count()
	return f
}

func (f *family) count() {
	for i := range f.gone {
		f.nChildren[i] = int32(len(f.children.of(int32(i))))
		f.nParents[i] = int32(len(f.parents.of(int32(i))))
		if f.nParents[i] == 1 {
			f.nOnly[f.parents.of(int32(i))[0]]++
		}
		if f.g.nodes[i].pinned {
			f.pin(int32(i))
		}
	}
}

// pin pins a node and all that it names.
func (f *family) pin(i int32) {
	for todo := []int32{i}; len(todo) > 0; {
		i, todo = todo[len(todo)-1], todo[:len(todo)-1]
		if !f.pinned[i] {
			f.pinned[i] = true
			todo = append(todo, f.children.of(i)...)
		}
	}
}

// free reports whether a node may go now.
func (f *family) free(i int32) bool { return !f.gone[i] && !f.pinned[i] && f.nOnly[i] == 0 }

// unit returns what goes if i goes, which is free, in the order in which it goes: i with
// what refers to it, and each index of which no child is left then, with what refers to
// that. The result is valid until the next call.
func (f *family) unit(i int32) []int32 {
	f.unitID++
	f.members, f.ordered = f.members[:0], f.ordered[:0]
	f.join(i)
	for k := 0; k < len(f.members); k++ {
		for _, parent := range f.parents.of(f.members[k]) {
			if !f.gone[parent] && f.inUnit[parent] != f.unitID && f.nInUnit[parent] == f.nChildren[parent] {
				f.join(parent)
			}
		}
	}
	for _, m := range f.members {
		f.order(m)
	}
	return f.ordered
}

// join makes i and what refers to it members of the unit, and also what refers to those:
// a signature of a bill of materials. It goes no deeper, so that no chain makes it long.
func (f *family) join(i int32) {
	f.member(i)
	from := len(f.members) - 1
	for range 2 {
		to := len(f.members)
		for _, m := range f.members[from:to] {
			for _, r := range f.referrers.of(m) {
				if f.free(r) && f.inUnit[r] != f.unitID {
					f.member(r)
				}
			}
		}
		from = to
	}
}

func (f *family) member(i int32) {
	f.inUnit[i] = f.unitID
	f.members = append(f.members, i)
	for _, parent := range f.parents.of(i) {
		if f.counted[parent] != f.unitID {
			f.counted[parent], f.nInUnit[parent] = f.unitID, 0
		}
		f.nInUnit[parent]++
	}
}

// order appends i to ordered, after what refers to it. Children are members before their
// index is one, so they go before it.
func (f *family) order(i int32) {
	if f.inUnit[i] != f.unitID || f.emitted[i] == f.unitID {
		return
	}
	f.emitted[i] = f.unitID
	for _, r := range f.referrers.of(i) {
		f.order(r)
	}
	f.ordered = append(f.ordered, i)
}

// remove takes a node out. It calls freed with each index that is free by that.
func (f *family) remove(i int32, freed func(i int32)) {
	f.gone[i] = true
	for _, parent := range f.parents.of(i) {
		if f.gone[parent] {
			continue
		}
		f.nChildren[parent]--
		if f.nParents[i] == 1 {
			f.nOnly[parent]--
		}
		if f.free(parent) {
			freed(parent)
		}
	}
	for _, child := range f.children.of(i) {
		if f.nParents[child]--; f.nParents[child] != 1 || f.gone[child] {
			continue
		}
		for _, parent := range f.parents.of(child) {
			if !f.gone[parent] {
				f.nOnly[parent]++
			}
		}
	}
}
