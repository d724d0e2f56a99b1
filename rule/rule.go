// Package rule says which upstream repository a local one stands for.
//
// A [Rule] maps a local repository, or all below a prefix, to one upstream:
//
//	Source: "docker.io/library/alpine"  Target: "alpine"
//	Source: "quay.io/team/*"            Target: "team/*"
//	Source: "docker.io/*"               Target: "*"
//
// A [Set] holds rules, refuses what Azure Container Registry's artifact cache
// refuses, and is a [Matcher]. Readers never wait for writers.
package rule

import (
	"context"
	"errors"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/upstream"
)

// ErrNoMatch reports that the rules were read and none of them covers a
// repository. It is an ordinary answer, no failure: see [Matcher].
var ErrNoMatch = errors.New("rule: no rule covers this repository")

// Rule maps a local repository to an upstream one. A Rule that a Set returns
// must not be changed.
type Rule struct {
	// Name is unique in a set: letters, digits and hyphens.
	Name string
	// Source is HOST/REPOSITORY, HOST/PREFIX/* or HOST/*. Only Set.Replace
	// changes it, which makes another rule of the same name.
	Source string
	// Target is the local REPOSITORY, PREFIX/* or *; with a wildcard exactly if
	// Source has one. Only Set.Replace changes it.
	Target string
	// Auth proves this rule to its upstream. If nil, requests are anonymous.
	Auth auth.Authenticator
	// Freshness is how long the answer to "has this tag moved" is reused. If
	// zero, the cache's own Freshness holds; negative: ask every time.
	Freshness time.Duration
	// MaxStale is how old the last good check of a tag may be for the stored
	// copy to be served when the upstream cannot be asked or refuses. If zero,
	// there is no limit; negative: never serve without a check.
	MaxStale time.Duration
	// RequireAccess forbids to serve a stored tag while the upstream refuses
	// access to it (401, 403, 451).
	RequireAccess bool
	// Platforms says which images of an index are copied besides those that are
	// pulled: "all", with what belongs to none, or names such as "linux/arm64" and
	// "linux/arm/v7" (without a variant: all variants). A tag then moves when
	// those that its source has are here. If nil or "pulled", only what is pulled
	// is copied.
	Platforms []string
	// Referrers says that signatures, SBOMs and whatever else refers to what is
	// copied is copied too: by the referrers API, its fallback tag, and the tags
	// of cosign. If false, they are copied when they are pulled.
	Referrers bool
}

// Match is the answer of a [Matcher].
type Match struct {
	// Rule is the rule that covers the repository. It must not be changed.
	Rule *Rule
	// Generation grows with each change of the rule: same Source and same
	// Generation mean same credentials.
	Generation uint64
	// Repository is the canonical local name, to be used from here on.
	Repository string
	// Source is what it stands for.
	Source upstream.Source
}

// Matcher finds the rule of a local repository. Implementations must be safe
// for concurrent use.
//
// Package cache asks at every request and tells two kinds of errors apart, with
// errors.Is:
//
//   - [ErrNoMatch]: no rule covers the repository. The cache hands the request to
//     its Next, or else treats the repository as a plain one, of which only what
//     is stored is served.
//   - any other error: the rules cannot be read just now, such as those of a
//     database that is away. The cache serves what is stored if it knows the last
//     match of the repository, and answers 503 with Retry-After otherwise.
//
// So an implementation must not return ErrNoMatch for rules that it could not
// read, nor another error for a repository that it does not know.
type Matcher interface {
	// Match returns the rule that covers the repository, or [ErrNoMatch]. The
	// result is shared and must not be changed.
	Match(ctx context.Context, repository string) (*Match, error)
}

// SourceMatcher is an optional ability of a [Matcher]: it serves containerd's
// ns= parameter. Its errors mean the same: [ErrNoMatch] says that no rule has a
// source that covers the upstream repository, and the cache answers 404 without
// asking Next; any other error says that the rules cannot be read just now.
type SourceMatcher interface {
	// MatchSource returns the rule whose source covers host/repository, the
	// longest prefix first, or [ErrNoMatch]. Package cache gives host in the
	// form of [CanonicalHost]. The result is shared and must not be changed.
	MatchSource(ctx context.Context, host, repository string) (*Match, error)
}
