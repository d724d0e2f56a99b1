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

// Options say what a set refuses. The zero value is that of [NewSet].
type Options struct {
	// Strict refuses whatever ACR refuses: upstreams outside of its table,
	// and rule names with fewer than five characters.
	Strict bool
	// Nested lets targets with wildcards lie inside one another, such as quay/*
	// beside *: the longest prefix wins. If false they are refused, as ACR does.
	Nested bool
	// MaxRules is how many rules a set may hold. If zero, [DefaultMaxRules];
	// negative: any number.
	MaxRules int
	// Upstreams are the only hosts that rules may name, and what each wants. If
	// nil, [ACR] in strict mode, otherwise every host is allowed.
	Upstreams Table
	// Present tells whether the local registry already has a repository that
	// target covers (a name, PREFIX/* or *) with content from elsewhere than
	// source (HOST/REPOSITORY, HOST/PREFIX/* or HOST/*, canonical). If true, the
	// rule is refused with [CodeTargetPresent] or [CodeTargetPrefixPresent], as
	// ACR does. There is no third answer: while the registry cannot be read,
	// true refuses the rule and false lets it in for good. Present is asked when
	// a rule comes or changes its source or target, with no lock held. If it is
	// nil, nothing is refused.
	Present func(target, source string) bool
	// Check may refuse an authenticator for a source's canonical host, such as
	// one that the source's network does not let in. Any error refuses the rule
	// with [CodeAuthenticationUnsupported]; its text becomes the Message, which
	// people read, and errors.Is finds it. There is no error that means "ask
	// again later", so Check should judge by what is known here and ask no
	// network. It is called when a rule comes or changes its authenticator, with
	// no lock held; the authenticator may be nil. If Check is nil, nothing is
	// refused.
	Check func(host string, a auth.Authenticator) error
}

// NewSet returns a set of rules under these options, or all that is wrong with
// them: see [Set.Assign].
func (o Options) NewSet(rules ...Rule) (*Set, error) {
	o.Upstreams = slices.Clone(o.Upstreams)
	s := &Set{options: o}
	if err := s.Assign(rules...); err != nil {
		return nil, err
	}
	return s, nil
}

// NewSet returns a set of rules, or all that is wrong with them: see
// [Set.Assign].
func NewSet(rules ...Rule) (*Set, error) { return Options{}.NewSet(rules...) }

func (o *Options) table() Table {
	if o.Upstreams == nil && o.Strict {
		return ACR()
	}
	return o.Upstreams
}

// checkLimit checks how many rules there are.
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
// and ready to use, with the zero [Options]. All methods may be called
// concurrently. Readers never wait: each sees the rules of one moment.
//
// A change that is refused changes nothing. Its error joins one [*Error] for
// each fault; errors.Is finds their codes.
type Set struct {
	options Options
	current atomic.Pointer[snapshot]

	mu   sync.Mutex // held by writers, never while embedders' code runs
	last uint64     // the newest generation
}

var (
	_ Matcher       = (*Set)(nil)
	_ SourceMatcher = (*Set)(nil)
)

// Match returns the rule that covers a local repository: the one with exactly
// that target, else the one with the longest prefix. Names that stand for the
// same repository of Docker Hub (alpine, library/alpine) have one match.
func (s *Set) Match(_ context.Context, repository string) (*Match, error) {
	if now := s.current.Load(); now != nil {
		if m := now.match(repository); m != nil {
			return m, nil
		}
	}
	return nil, ErrNoMatch
}

// MatchSource returns the rule for an upstream repository: one with exactly
// that source, else the one with the longest prefix, and of several with the
// same source the one whose name sorts first. A rule is passed over if its
// local name leads elsewhere because another rule's target covers it, so the
// match is always for what was asked and is the one that Match returns for its
// Repository.
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

// Get returns the rule of that name.
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

// Create adds a rule. [CodeRuleExists] if there is one of that name.
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

// SetAuth gives the rule of that name another authenticator. If a is nil, it has none.
// [CodeRuleNotFound] if there is no such rule.
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

// Replace puts a rule in the place of the one with its name. Source and target
// may be others: what was stored for the former source is then not served for
// this rule. [CodeRuleNotFound] if there is no rule of that name.
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

// Delete removes the rule of that name. [CodeRuleNotFound] if there is none.
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
// The error joins all faults in this order: those of each rule by itself; those
// between rules, each at the later one of the two; that there are too many. A
// rule with a fault of its own is compared with the others all the same: by its
// name, and by its target if that can be understood.
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

// exchange replaces one entry by what next makes of it. next runs without a
// lock, since it asks embedders' code, and once more if the entry has changed
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
			// At the end: of two that overlap the new one is at fault.
			return append(slices.Delete(entries, i, i+1), e), nil
		}, e)
		if err != errChanged {
			return err
		}
	}
}

// errChanged says that an entry is no longer the one that was looked at.
var errChanged = errors.New("rule: changed meanwhile")

// change publishes what edit makes of a copy of the entries. The fresh ones get
// a generation.
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
	// The clock makes generations differ between sets too, for those who put
	// one set in the place of another.
	s.last = max(s.last, uint64(time.Now().UnixNano()))
	for _, e := range fresh {
		s.last++
		e.generation = s.last
	}
	s.current.Store(next)
	return nil
}

// checkPresent asks whether a new target is free, if the rule can be understood.
func (o *Options) checkPresent(e, old *entry) error {
	same := old != nil && old.target == e.target && old.wild == e.wild && old.host == e.host && old.source == e.source
	if o.Present == nil || same || e.unread || e.host == "" {
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

// flatten takes joined errors apart, so that the faults of all rules stand side
// by side, and drops those that are nil.
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
