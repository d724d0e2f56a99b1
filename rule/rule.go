// Package rule maps local repositories to upstream ones.
//
// A [Rule] maps a local repository, or all repositories below a prefix, to one upstream:
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

// ErrNoMatch reports that the rules were read and none of them covers a repository. It
// is an ordinary result and not a failure: see [Matcher].
var ErrNoMatch = errors.New("rule: no rule covers this repository")

// Rule maps a local repository to an upstream one. A Rule that a Set returns
// must not be changed.
type Rule struct {
	// Name consists of letters, digits and hyphens. It is unique in a set.
	Name string
	// Source is HOST/REPOSITORY, HOST/PREFIX/* or HOST/*. Only Set.Replace changes
	// it, which makes another rule with the same name.
	Source string
	// Target is the local REPOSITORY, PREFIX/* or *. It has a wildcard if and only if
	// Source has one. Only Set.Replace changes it.
	Target string
	// Auth provides the credential for requests to the upstream. If nil, they are
	// anonymous.
	Auth auth.Authenticator
	// Freshness is how long the result of a check whether a tag has moved is reused.
	// If zero, the Freshness of the cache applies. If negative, each pull of a tag
	// makes a check.
	Freshness time.Duration
	// MaxStale is how old the last successful check of a tag may be for the stored
	// image to be served when the upstream cannot be reached or refuses. If zero,
	// there is no limit. If negative, a stored image is not served then.
	MaxStale time.Duration
	// RequireAccess says that a stored tag is not served while the upstream refuses
	// access to it (401, 403, 451).
	RequireAccess bool
	// Platforms says which images of an index are copied besides those that clients
	// pull: names such as "linux/arm64" or "linux/arm/v7", of which one without a
	// variant means all variants, or [AllPlatforms] for everything in the index. A tag
	// then moves only when those of them that the source has are stored. If nil or
	// [PulledPlatforms], only images that clients pull are copied.
	Platforms []string
	// Referrers says that artifacts that refer to an image, such as signatures and
	// SBOMs, are copied with it. They are found by the referrers API, its fallback
	// tag, and the tags of cosign. If false, they are copied when clients pull them.
	Referrers bool
}

// Match is the result of a [Matcher].
type Match struct {
	// Rule is the rule that covers the repository. It must not be changed.
	Rule *Rule
	// Generation grows with each change of the rule. Matches with equal Source and
	// Generation have the same credentials.
	Generation uint64
	// Repository is the canonical local name, under which everything is stored.
	Repository string
	// Source is the upstream repository that it stands for.
	Source upstream.Source
}

// Matcher finds the rule of a local repository. Implementations must be safe
// for concurrent use.
//
// Package cache calls Match for every request and distinguishes two kinds of errors,
// with errors.Is:
//
//   - [ErrNoMatch] means that no rule covers the repository. The cache passes the
//     request to its Next, or, without a Next, serves the stored content of the
//     repository only.
//   - Any other error means that the rules cannot be read now, as when their database
//     is down. The cache serves stored content if it knows the last match of the
//     repository, and otherwise responds with 503 and Retry-After.
//
// An implementation must therefore not return ErrNoMatch if it could not read the rules,
// nor another error for a repository that no rule covers.
type Matcher interface {
	// Match returns the rule that covers the repository, or [ErrNoMatch]. The
	// result is shared and must not be changed.
	Match(ctx context.Context, repository string) (*Match, error)
}

// SourceMatcher is an optional ability of a [Matcher]: it serves containerd's ns=
// parameter. [ErrNoMatch] means that no rule's source covers the upstream repository;
// the cache then responds with 404 and does not call Next. Any other error means that
// the rules cannot be read now.
type SourceMatcher interface {
	// MatchSource returns the rule whose source covers host/repository, that with the
	// longest prefix if there are several, or [ErrNoMatch]. Package cache passes host
	// in the form of [CanonicalHost]. The result is shared and must not be changed.
	MatchSource(ctx context.Context, host, repository string) (*Match, error)
}
