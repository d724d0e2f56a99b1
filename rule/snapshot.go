package rule

import (
	"slices"
	"strings"

	"github.com/pullthrough/pullthrough/internal/ociname"
	"github.com/pullthrough/pullthrough/upstream"
)

// entry is a rule of a snapshot, taken apart. It is immutable.
type entry struct {
	rule       *Rule
	generation uint64
	host       string // canonical; empty: the source is not understood
	source     string // repository, or prefix if wild; with library/ if it needs it
	target     string // repository, or prefix if wild
	wild       bool
	unread     bool // the target is not understood: only the name is compared
}

// at is a repository, or a prefix, at a host.
type at struct{ host, path string }

// snapshot is a set of rules at one moment. Only the memo changes.
type snapshot struct {
	byName map[string]*entry
	sorted []*entry // by name

	exact map[string]*entry // by target
	wild  map[string]*entry // by target prefix
	under map[string]*entry // by what lies above a target prefix: one of the prefixes below

	exactSource map[at][]*entry // each in the order of names
	wildSource  map[at][]*entry

	memo memo
}

// newSnapshot makes a snapshot of entries, and reports what is wrong between
// them in their order: the later rule is the one at fault. With faults, here or
// in an entry itself, the snapshot is not to be used.
func newSnapshot(entries []*entry, o *Options) (*snapshot, []error) {
	s := &snapshot{
		byName: make(map[string]*entry, len(entries)),
		sorted: slices.Clone(entries),
		exact:  map[string]*entry{}, wild: map[string]*entry{}, under: map[string]*entry{},
		exactSource: map[at][]*entry{}, wildSource: map[at][]*entry{},
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
		k := at{e.host, e.source}
		sources[k] = append(sources[k], e)
	}
	return s, found
}

// addName puts an entry into the map by name, unless another has the name. That
// a name is missing is a fault of each rule by itself.
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

// addTarget puts an entry into the maps by target, unless it is in the way of
// another.
func (s *snapshot) addTarget(e *entry, o *Options) error {
	if e.unread {
		return nil
	}
	if other := s.overlap(e, o.Nested); other != nil {
		if name := e.rule.Name; name != "" && name == other.rule.Name {
			return nil // the same rule twice: the name says it
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

// overlapError says that the target of e is in the way of another rule's. The
// hint fits what YAML says (nested: true) and what Go says (Nested: true).
func overlapError(e, other *entry) error {
	text := "There is already a cache rule '" + shorten(other.rule.Name) + "' with target repository '" + other.rule.Target +
		"', which conflicts with target repository '" + e.rule.Target + "'."
	if e.wild && other.target != e.target {
		text += " Targets with wildcards must not include one another, unless nested targets are allowed (nested: true)."
	}
	return &Error{Code: CodeOverlap, Rule: e.rule.Name, Field: "target", Message: text}
}

// overlap returns a rule whose target may not stand beside that of e.
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

// above yields the prefixes above a path, the longest first, and the empty one
// last. Of the empty one it yields nothing.
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

// cover returns the entry whose target covers a name: the exact one, else the
// one with the longest prefix.
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

// match finds the rule of a name and remembers it.
func (s *snapshot) match(name string) *Match {
	m := s.memo.get("", name)
	if m == nil {
		if m = s.find(name); m != nil {
			s.memo.put("", name, m)
		}
	}
	return m
}

// find follows a name to its canonical form. Each step that changes the name
// makes it longer, so it ends; names are checked before they are used.
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
		// Another rule may cover the canonical name; and whoever asks for it
		// shall get the very same match.
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

// translate returns the canonical form of a covered name and what it stands
// for.
func (e *entry) translate(name string) (canonical, source string) {
	if !e.wild {
		return name, e.source
	}
	rest := below(e.target, name)
	source = join(e.source, rest)
	if full := library(e.host, source); full != source {
		// Only without a source prefix can there be a single segment.
		return join(e.target, full), full
	}
	return name, source
}

// matchSource finds the local repository of an upstream one: exact sources
// first, then the longest prefix. A rule counts only if its local name really
// leads there: another rule's target may cover that name.
func (s *snapshot) matchSource(host, repository string) *Match {
	for _, e := range s.exactSource[at{host, repository}] {
		if m := s.leads(e.target, host, repository); m != nil {
			return m
		}
	}
	for base := range above(repository) {
		for _, e := range s.wildSource[at{host, base}] {
			if m := s.leads(join(e.target, below(base, repository)), host, repository); m != nil {
				return m
			}
		}
	}
	return nil
}

// leads returns the match of a local name if it stands for that source.
func (s *snapshot) leads(name, host, repository string) *Match {
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
