package rule

import (
	"slices"
	"strings"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/internal/ociname"
)

// The lengths of rule names. ACR's minimum holds in strict mode and in JSON.
const (
	maxRuleName    = 50
	minACRRuleName = 5
)

// checkName validates a rule's name.
func (f *faults) checkName(field, name string, strict bool) {
	least := 1
	if strict {
		least = minACRRuleName
	}
	ok := len(name) >= least && len(name) <= maxRuleName
	for i := range len(name) {
		c := name[i]
		ok = ok && (c == '-' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z')
	}
	if !ok {
		f.add(CodeRuleName, field, "Cache rule name '%s' is invalid: %d to %d letters, digits and hyphens are allowed.", shorten(name), least, maxRuleName)
	}
}

// pattern is the repository part of a source or target: a repository, or, with wild,
// every repository below base. An empty base with wild stands for all repositories.
type pattern struct {
	base string
	wild bool
}

// parsePattern parses REPOSITORY, PREFIX/* or *.
func (f *faults) parsePattern(field, whole, text string) (p pattern, ok bool) {
	switch {
	case text == "*":
		return pattern{wild: true}, true
	case strings.HasSuffix(text, "/*"):
		p = pattern{base: text[:len(text)-2], wild: true}
	default:
		p = pattern{base: text}
	}
	if strings.Contains(p.base, "*") {
		f.add(CodeWildcard, field, "Invalid wildcard in '%s': only '*' and 'prefix/*' are allowed.", shorten(whole))
		return p, false
	}
	if ociname.ValidRepository(p.base, ociname.MaxRepository) {
		return p, true
	}
	reason := ""
	switch {
	case p.base == "":
		reason = "no repository"
	case len(p.base) > ociname.MaxRepository:
		reason = "the name is too long"
	case strings.Contains(p.base, "@"):
		reason = "a digest is not allowed"
	case strings.Contains(p.base, ":"):
		reason = "a tag is not allowed"
	case strings.ToLower(p.base) != p.base:
		reason = "upper case is not allowed"
	default:
		reason = "the name is not valid"
	}
	f.add(CodeRepositoryName, field, "Repository names should follow the standardized docker repository naming conventions. "+
		"All characters should be lowercase. For more information, please visit https://aka.ms/acr/cache. ('%s': %s)", shorten(whole), reason)
	return p, false
}

// parseSource parses HOST/PATTERN. As for docker, the first segment is a host if it has
// a dot or a port, or is localhost.
func (f *faults) parseSource(source string) (host string, p pattern, ok bool) {
	if strings.Contains(source, "://") {
		f.add(CodeLoginServer, "source", "Source '%s' must not have a scheme: HOST/REPOSITORY is expected.", shorten(source))
		return "", p, false
	}
	first, rest, slash := strings.Cut(source, "/")
	if first != "localhost" && !strings.ContainsAny(first, ".:[") || first == "." || first == ".." {
		f.add(CodeLoginServer, "source",
			"Source '%s' names no login server. Write it as LOGINSERVER/REPOSITORY, for Docker Hub as 'docker.io/%s'.", shorten(source), shorten(source))
		return "", p, false
	}
	host, err := CanonicalHost(first)
	if err != nil {
		f.wrap(CodeLoginServer, "source", err)
	}
	if !slash {
		f.add(CodeRepositoryName, "source", "Source '%s' names no repository.", shorten(source))
		return "", p, false
	}
	p, ok = f.parsePattern("source", source, rest)
	return host, p, ok && err == nil
}

// parse validates one rule by itself and returns its entry. A rule with faults has an
// entry too, so that it can be compared with others, but that must not get into a set.
func (o *Options) parse(r Rule) (*entry, error) {
	f := &faults{rule: r.Name}
	f.checkName("name", r.Name, o.Strict)
	host, source, okSource := f.parseSource(r.Source)
	target, okTarget := f.parsePattern("target", r.Target, r.Target)
	mismatch := okSource && okTarget && source.wild != target.wild
	if mismatch { // either may be wrong, so the target is not compared with others
		f.add(CodeWildcard, "target", "Source '%s' and target '%s' must both end in a wildcard, or neither.", r.Source, r.Target)
	}
	if okSource {
		o.checkAuth(f, host, r.Auth)
	} else {
		host = ""
	}
	if err := oci.CheckPlatforms(r.Platforms); err != nil {
		f.add(CodePlatforms, "platforms", "Cache rule with %v.", err)
	}
	r.Platforms = slices.Clone(r.Platforms)
	e := &entry{rule: &r, host: host, source: source.base, target: target.base, wild: target.wild, badTarget: !okTarget || mismatch}
	if !e.wild {
		e.source = library(host, e.source)
	}
	return e, f.err()
}

// checkAuth checks whether a rule for host may have this authenticator. It calls code
// of the embedder, so it must not be called with a lock held.
func (o *Options) checkAuth(f *faults, host string, a auth.Authenticator) {
	o.checkUpstream(f, host, a)
	if c, ok := auth.As[auth.Checker](a); ok {
		if err := c.Check(host); err != nil {
			f.wrap(CodeAuthenticator, "auth", err)
		}
	}
	if o.Check != nil {
		if err := o.Check(host, a); err != nil {
			f.wrap(CodeAuthenticationUnsupported, "auth", err)
		}
	}
}

// library returns the full name of a repository that Docker Hub lets clients shorten.
func library(host, repository string) string {
	if onHub(host) && strings.IndexByte(repository, '/') < 0 {
		return "library/" + repository
	}
	return repository
}

// shorten cuts a text of strangers, so that it fits a log line.
func shorten(s string) string {
	if len(s) > 300 {
		return s[:300] + "..."
	}
	return s
}
