package rule

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pullthrough/pullthrough/auth"
)

// DefaultMaxRules is how many rules a set holds unless [Options] say otherwise.
const DefaultMaxRules = 1000

// Options say which rules a set refuses. [NewSet] uses the zero value.
type Options struct {
	// Strict refuses rules that only ACR refuses: those with upstreams outside of its
	// table, and those with names of fewer than five characters.
	Strict bool
	// Nested allows targets with wildcards inside one another, such as quay/* beside
	// *; the longest prefix then wins. If false, the set refuses them, as ACR does.
	Nested bool
	// MaxRules is how many rules a set may hold. If zero, [DefaultMaxRules] applies.
	// If negative, there is no limit.
	MaxRules int
	// Upstreams are the only hosts that rules may name, with the policy of each. If
	// nil, the table is [ACR] in strict mode, and otherwise all hosts are allowed.
	Upstreams Table
	// Present reports whether the local registry already has a repository that
	// target covers (a name, PREFIX/* or *) with content from elsewhere than
	// source (HOST/REPOSITORY, HOST/PREFIX/* or HOST/*, canonical). If so, the set
	// refuses the rule with [CodeTargetPresent] or [CodeTargetPrefixPresent], as ACR
	// does. Present cannot report that the registry cannot be read: then true refuses
	// the rule, and false accepts it for good. The set calls Present when a rule is
	// added or changes its source or target, with no lock held. If nil, no rule is
	// refused for this reason.
	Present func(target, source string) bool
	// Check may refuse an authenticator for the canonical host of a source, such as
	// a form of authentication that the source does not support. After an error the
	// set refuses the rule with [CodeAuthenticationUnsupported]; the text of the error
	// becomes the Message, and errors.Is finds it. No error means "try again later",
	// so Check should decide by what is known locally, without the network. The set
	// calls Check when a rule is added or changes its authenticator, which may be nil,
	// with no lock held. If nil, no rule is refused for this reason.
	Check func(host string, a auth.Authenticator) error
}

// NewSet returns a set of rules under these options. Its error is that of
// [Set.Assign].
func (o Options) NewSet(rules ...Rule) (*Set, error) {
	o.Upstreams = slices.Clone(o.Upstreams)
	s := &Set{options: o}
	if err := s.Assign(rules...); err != nil {
		return nil, err
	}
	return s, nil
}

// NewSet returns a set of rules under the zero [Options]. Its error is that of
// [Set.Assign].
func NewSet(rules ...Rule) (*Set, error) { return Options{}.NewSet(rules...) }

func (o *Options) table() Table {
	if o.Upstreams == nil && o.Strict {
		return ACR()
	}
	return o.Upstreams
}

// checkLimit returns a fault if n rules are too many.
func (o *Options) checkLimit(n int) []error {
	limit := o.MaxRules
	if limit == 0 {
		limit = DefaultMaxRules
	}
	if limit < 0 || n <= limit {
		return nil
	}
	return []error{&Error{Code: CodeRuleLimit, Message: fmt.Sprintf("The registry may have %d cache rules at most, not %d.", limit, n)}}
}

// Set holds rules and finds the one for a repository. The zero value is empty
// and ready to use, with the zero [Options]. It is safe for concurrent use. Readers
// never wait for writers, and each call sees the rules of one moment.
//
// A change that is refused changes nothing. Its error joins one [*Error] for
// each fault; errors.Is finds their codes.
type Set struct {
	options Options
	current atomic.Pointer[snapshot]

	mu   sync.Mutex // held by writers, but not while code of the embedder runs
	last uint64     // the newest generation
}

var (
	_ Matcher       = (*Set)(nil)
	_ SourceMatcher = (*Set)(nil)
)

// Match returns the rule that covers a local repository: the one with exactly that
// target, or else the one with the longest prefix. Names that stand for one repository
// of Docker Hub (alpine, library/alpine) have one match.
func (s *Set) Match(_ context.Context, repository string) (*Match, error) {
	if now := s.current.Load(); now != nil {
		if m := now.match(repository); m != nil {
			return m, nil
		}
	}
	return nil, ErrNoMatch
}

// MatchSource returns the rule for an upstream repository: the one with exactly that
// source, or else the one with the longest prefix. Of several rules with one source, it
// returns the one whose name sorts first. A rule whose local name is covered by the
// target of another rule, and so leads elsewhere, is passed over. The match thus always
// has the requested source, and is the one that Match returns for its Repository.
func (s *Set) MatchSource(_ context.Context, host, repository string) (*Match, error) {
	now := s.current.Load()
	if now == nil || host == "" {
		return nil, ErrNoMatch
	}
	if m := now.memo.get(host, repository); m != nil {
		return m, nil
	}
	canonical, err := CanonicalHost(host)
	if err != nil {
		return nil, ErrNoMatch
	}
	m := now.matchSource(canonical, library(canonical, repository))
	if m == nil {
		return nil, ErrNoMatch
	}
	now.memo.put(host, repository, m)
	return m, nil
}

// Get returns the rule with that name, and whether there is one.
func (s *Set) Get(name string) (Rule, bool) {
	if e := s.find(name); e != nil {
		return *e.rule, true
	}
	return Rule{}, false
}

// All yields the rules of one moment in the order of their names.
func (s *Set) All() iter.Seq[Rule] {
	return func(yield func(Rule) bool) {
		now := s.current.Load()
		if now == nil {
			return
		}
		for _, e := range now.sorted {
			if !yield(*e.rule) {
				return
			}
		}
	}
}

// Create adds a rule. The code of its error is [CodeRuleExists] if there is a rule with
// that name already.
func (s *Set) Create(r Rule) error {
	e, err := s.options.parse(r)
	if err != nil {
		return err
	}
	if err := s.options.checkPresent(e, nil); err != nil {
		return err
	}
	return s.change(func(old []*entry) ([]*entry, error) { return append(old, e), nil }, e)
}

// SetAuth gives the rule with that name another authenticator, or none if a is nil. The
// code of its error is [CodeRuleNotFound] if there is no such rule.
func (s *Set) SetAuth(name string, a auth.Authenticator) error {
	return s.exchange(name, func(old *entry) (*entry, error) {
		f := &faults{rule: name}
		s.options.checkAuth(f, old.host, a)
		if err := f.err(); err != nil {
			return nil, err
		}
		e, r := *old, *old.rule
		r.Auth = a
		e.rule = &r
		return &e, nil
	})
}

// Replace replaces the rule that has the name of r. Source and target may differ; what
// was stored from the former source is then not served for this rule. The code of its
// error is [CodeRuleNotFound] if there is no rule with that name.
func (s *Set) Replace(r Rule) error {
	e, err := s.options.parse(r)
	if err != nil {
		return err
	}
	return s.exchange(r.Name, func(old *entry) (*entry, error) {
		fresh := *e
		return &fresh, s.options.checkPresent(e, old)
	})
}

// Delete removes the rule with that name. The code of its error is [CodeRuleNotFound]
// if there is none.
func (s *Set) Delete(name string) error {
	return s.change(func(old []*entry) ([]*entry, error) {
		rest := slices.DeleteFunc(old, func(e *entry) bool { return e.rule.Name == name })
		if len(rest) == len(old) {
			return nil, notFound(name)
		}
		return rest, nil
	})
}

// Assign makes the set hold exactly these rules, in one step. Every rule gets a
// new generation, as after [Set.Replace].
//
// The error joins all faults in this order: those of each rule by itself; those between
// two rules, which are faults of the later one; and that there are too many rules. A
// rule with a fault of its own is still compared with the others, by its name, and by
// its target if that is valid.
func (s *Set) Assign(rules ...Rule) error {
	var found []error
	var entries []*entry
	for _, r := range rules {
		e, err := s.options.parse(r)
		entries = append(entries, e)
		found = append(found, err, s.options.checkPresent(e, s.find(r.Name)))
	}
	if found = flatten(found); len(found) > 0 {
		_, between := newSnapshot(entries, &s.options)
		return errors.Join(slices.Concat(found, between, s.options.checkLimit(len(rules)))...)
	}
	return s.change(func([]*entry) ([]*entry, error) { return entries, nil }, entries...)
}

func (s *Set) find(name string) *entry {
	now := s.current.Load()
	if now == nil {
		return nil
	}
	return now.byName[name]
}

// exchange replaces one entry by the entry that next makes of it. next runs without a
// lock, since it calls code of the embedder, and once more if the entry has changed
// meanwhile.
func (s *Set) exchange(name string, next func(old *entry) (*entry, error)) error {
	for {
		old := s.find(name)
		if old == nil {
			return notFound(name)
		}
		e, err := next(old)
		if err != nil {
			return err
		}
		err = s.change(func(entries []*entry) ([]*entry, error) {
			i := slices.Index(entries, old)
			if i < 0 {
				return nil, errChanged
			}
			// It comes last, since of two rules that overlap the later one is at fault.
			return append(slices.Delete(entries, i, i+1), e), nil
		}, e)
		if err != errChanged {
			return err
		}
	}
}

// errChanged reports that an entry has been replaced since it was read.
var errChanged = errors.New("rule: changed meanwhile")

// change publishes the entries that edit makes of a copy of the present ones. Each of
// fresh gets a new generation.
func (s *Set) change(edit func(old []*entry) ([]*entry, error), fresh ...*entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var old []*entry
	if now := s.current.Load(); now != nil {
		old = slices.Clone(now.sorted)
	}
	entries, err := edit(old)
	if err != nil {
		return err
	}
	next, found := newSnapshot(entries, &s.options)
	if len(entries) > len(old) {
		found = append(found, s.options.checkLimit(len(entries))...)
	}
	if len(found) > 0 {
		return errors.Join(found...)
	}
	// The clock makes generations differ between sets too, since a program may
	// replace one set by another.
	s.last = max(s.last, uint64(time.Now().UnixNano()))
	for _, e := range fresh {
		s.last++
		e.generation = s.last
	}
	s.current.Store(next)
	return nil
}

// checkPresent calls Present for a new source or target, if both are valid. old is the
// entry that e replaces, if any.
func (o *Options) checkPresent(e, old *entry) error {
	unchanged := old != nil && old.target == e.target && old.wild == e.wild && old.host == e.host && old.source == e.source
	if o.Present == nil || unchanged || e.badTarget || e.host == "" {
		return nil
	}
	target, source := e.target, e.host+"/"+e.source
	if e.wild {
		target, source = join(e.target, "*"), e.host+"/"+join(e.source, "*")
	}
	if !o.Present(target, source) {
		return nil
	}
	f := &faults{rule: e.rule.Name}
	if e.wild {
		f.add(CodeTargetPrefixPresent, "target", "There are one or more target repositories in the registry which match the target repository prefix '%s'.", target)
	} else {
		f.add(CodeTargetPresent, "target", "Target repository '%s' is already present in registry. Cache rules cannot be created for existing repositories in registry. "+
			"For more information, please visit https://aka.ms/acr/cache", target)
	}
	return f.err()
}

func notFound(name string) error {
	return &Error{Code: CodeRuleNotFound, Rule: name, Message: "There is no cache rule named '" + shorten(name) + "'."}
}

// flatten replaces joined errors by their parts, so that the faults of all rules are
// in one list, and drops those that are nil.
func flatten(list []error) (flat []error) {
	for _, err := range list {
		if err == nil {
			continue
		}
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			if _, single := err.(*Error); !single {
				flat = append(flat, joined.Unwrap()...)
				continue
			}
		}
		flat = append(flat, err)
	}
	return flat
}
