package rule

import (
	"slices"
	"strings"

	"github.com/pullthrough/pullthrough/internal/ociname"
	"github.com/pullthrough/pullthrough/upstream"
)

// entry is a parsed rule. It is immutable.
type entry struct {
	rule       *Rule
	generation uint64
	host       string // canonical; empty if the source is not valid
	source     string // repository, or prefix if wild; Docker Hub's short names with library/
	target     string // repository, or prefix if wild
	wild       bool
	badTarget  bool // the target is not valid, so only the name is compared with others
}

// hostPath is a repository, or a prefix, at a host.
type hostPath struct{ host, path string }

// snapshot is a set of rules at one moment. Only the memo changes.
type snapshot struct {
	byName map[string]*entry
	sorted []*entry // by name

	exact map[string]*entry // by target
	wild  map[string]*entry // by target prefix
	under map[string]*entry // by each path above a target prefix: a rule with such a prefix

	exactSource map[hostPath][]*entry // each sorted by name
	wildSource  map[hostPath][]*entry

	memo memo
}

// newSnapshot makes a snapshot of entries, and returns the faults between them in their
// order; the later of two rules is the one at fault. A snapshot with faults, or with an
// entry that has faults, must not be used.
func newSnapshot(entries []*entry, o *Options) (*snapshot, []error) {
	s := &snapshot{
		byName: make(map[string]*entry, len(entries)),
		sorted: slices.Clone(entries),
		exact:  map[string]*entry{}, wild: map[string]*entry{}, under: map[string]*entry{},
		exactSource: map[hostPath][]*entry{}, wildSource: map[hostPath][]*entry{},
		memo: newMemo(),
	}
	var found []error
	for _, e := range entries {
		if err := s.addName(e); err != nil {
			found = append(found, err)
		}
		if err := s.addTarget(e, o); err != nil {
			found = append(found, err)
		}
	}
	slices.SortFunc(s.sorted, func(a, b *entry) int { return strings.Compare(a.rule.Name, b.rule.Name) })
	for _, e := range s.sorted {
		sources := s.exactSource
		if e.wild {
			sources = s.wildSource
		}
		k := hostPath{e.host, e.source}
		sources[k] = append(sources[k], e)
	}
	return s, found
}

// addName puts an entry into the map by name, unless another entry has the name. It
// does not report an empty name, which parse has done.
func (s *snapshot) addName(e *entry) error {
	name := e.rule.Name
	if s.byName[name] == nil {
		s.byName[name] = e
		return nil
	}
	if name == "" {
		return nil
	}
	return &Error{Code: CodeRuleExists, Rule: name, Field: "name", Message: "A cache rule named '" + shorten(name) + "' already exists."}
}

// addTarget puts an entry into the maps by target, unless its target conflicts with
// that of another entry.
func (s *snapshot) addTarget(e *entry, o *Options) error {
	if e.badTarget {
		return nil
	}
	if other := s.overlap(e, o.Nested); other != nil {
		if name := e.rule.Name; name != "" && name == other.rule.Name {
			return nil // addName has reported it
		}
		return overlapError(e, other)
	}
	if !e.wild {
		s.exact[e.target] = e
		return nil
	}
	s.wild[e.target] = e
	for base := range above(e.target) {
		s.under[base] = e
	}
	return nil
}

// overlapError returns the fault that the target of e conflicts with that of other. Its
// hint fits both YAML (nested: true) and Go (Nested: true).
func overlapError(e, other *entry) error {
	text := "There is already a cache rule '" + shorten(other.rule.Name) + "' with target repository '" + other.rule.Target +
		"', which conflicts with target repository '" + e.rule.Target + "'."
	if e.wild && other.target != e.target {
		text += " Targets with wildcards must not include one another, unless nested targets are allowed (nested: true)."
	}
	return &Error{Code: CodeOverlap, Rule: e.rule.Name, Field: "target", Message: text}
}

// overlap returns an entry whose target conflicts with that of e, or nil.
func (s *snapshot) overlap(e *entry, nested bool) *entry {
	if !e.wild {
		return s.exact[e.target]
	}
	if other := s.wild[e.target]; other != nil || nested {
		return other
	}
	for base := range above(e.target) {
		if other := s.wild[base]; other != nil {
			return other
		}
	}
	return s.under[e.target]
}

// above yields the proper prefixes of a path, from the longest to the empty one. For
// the empty path it yields none.
func above(path string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for path != "" {
			path = path[:max(0, strings.LastIndexByte(path, '/'))]
			if !yield(path) {
				return
			}
		}
	}
}

// cover returns the entry whose target covers a name: the one with exactly that
// target, or else the one with the longest prefix.
func (s *snapshot) cover(name string) *entry {
	if e := s.exact[name]; e != nil {
		return e
	}
	if len(s.wild) == 0 {
		return nil
	}
	for base := range above(name) {
		if e := s.wild[base]; e != nil {
			return e
		}
	}
	return nil
}

// match returns the match of a name, and remembers it.
func (s *snapshot) match(name string) *Match {
	m := s.memo.get("", name)
	if m == nil {
		if m = s.find(name); m != nil {
			s.memo.put("", name, m)
		}
	}
	return m
}

// find computes the match of a name. It calls match for the canonical form of the name,
// which is longer, so that the recursion ends at the longest valid name.
func (s *snapshot) find(name string) *Match {
	e := s.cover(name)
	if e == nil {
		return nil
	}
	if e.wild && !ociname.ValidRepository(name, ociname.MaxRepository) {
		return nil
	}
	canonical, source := e.translate(name)
	if canonical != name {
		// Another rule may cover the canonical name, and both names must have one
		// match.
		return s.match(canonical)
	}
	if len(source) > ociname.MaxRepository {
		return nil
	}
	return &Match{
		Rule: e.rule, Generation: e.generation, Repository: strings.Clone(canonical),
		Source: upstream.Source{Rule: e.rule.Name, Host: e.host, Repository: strings.Clone(source)},
	}
}

// translate returns the canonical form of a name that e covers, and the upstream
// repository that it stands for.
func (e *entry) translate(name string) (canonical, source string) {
	if !e.wild {
		return name, e.source
	}
	rest := below(e.target, name)
	source = join(e.source, rest)
	if full := library(e.host, source); full != source {
		// The source has a single segment, so e has no source prefix.
		return join(e.target, full), full
	}
	return name, source
}

// matchSource finds the local repository of an upstream one: exact sources first, then
// the longest prefix. A rule whose local name is covered by the target of another rule,
// and so leads elsewhere, does not count.
func (s *snapshot) matchSource(host, repository string) *Match {
	for _, e := range s.exactSource[hostPath{host, repository}] {
		if m := s.matchLeading(e.target, host, repository); m != nil {
			return m
		}
	}
	for base := range above(repository) {
		for _, e := range s.wildSource[hostPath{host, base}] {
			if m := s.matchLeading(join(e.target, below(base, repository)), host, repository); m != nil {
				return m
			}
		}
	}
	return nil
}

// matchLeading returns the match of a local name if it leads to that source, or nil.
func (s *snapshot) matchLeading(name, host, repository string) *Match {
	m := s.match(name)
	if m == nil || m.Source.Host != host || m.Source.Repository != repository {
		return nil
	}
	return m
}

// join puts a prefix, which may be empty, before a path.
func join(prefix, path string) string {
	if prefix == "" {
		return path
	}
	return prefix + "/" + path
}

// below removes a prefix, which may be empty, from a path in it.
func below(prefix, path string) string {
	if prefix == "" {
		return path
	}
	return path[len(prefix)+1:]
}
