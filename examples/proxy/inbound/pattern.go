package inbound

import (
	"fmt"
	"strings"
)

// Everything is the pattern of all repositories.
const Everything = "*"

// Patterns say which repositories may be pulled, by their canonical local names. In each
// of them * stands for any characters, slashes included: team-a/* is all that lies below
// team-a. Without patterns nothing may be pulled.
type Patterns []string

// CheckPattern returns an error for a pattern that no repository can match, or nil.
func CheckPattern(pattern string) error {
	if pattern == "" {
		return fmt.Errorf("the pattern is empty; %q stands for all repositories", Everything)
	}
	if i := strings.IndexFunc(pattern, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("*._-/", c)
	}); i >= 0 {
		return fmt.Errorf("%q: no repository has %q in its name: names are made of lower-case letters, digits, '.', '_', '-' and '/', and * stands for any of these",
			pattern, firstRune(pattern[i:]))
	}
	if strings.HasPrefix(pattern, "/") || strings.HasSuffix(pattern, "/") || strings.Contains(pattern, "//") || strings.Contains(pattern, "..") {
		return fmt.Errorf("%q: no repository has such a name; REPOSITORY is expected, with * for any characters, such as team-a/*", pattern)
	}
	return nil
}

// firstRune is the first character of a text.
func firstRune(text string) rune {
	for _, c := range text {
		return c
	}
	return 0
}

// Match reports whether one of the patterns has a repository.
func (p Patterns) Match(repository string) bool {
	for _, one := range p {
		if wildcard(one, repository) {
			return true
		}
	}
	return false
}

// all reports whether one of the patterns has every repository.
func (p Patterns) all() bool {
	for _, one := range p {
		if strings.Trim(one, "*") == "" && one != "" {
			return true
		}
	}
	return false
}

// wildcard matches a name with a pattern. It takes time in proportion to the length of the
// name, since the first place where a piece fits is as good as any other.
func wildcard(pattern, name string) bool {
	begin, rest, found := strings.Cut(pattern, "*")
	if !found {
		return pattern == name
	}
	name, ok := strings.CutPrefix(name, begin)
	if !ok {
		return false
	}
	pieces := strings.Split(rest, "*")
	end := len(pieces) - 1
	for _, piece := range pieces[:end] {
		_, after, ok := strings.Cut(name, piece)
		if !ok {
			return false
		}
		name = after
	}
	return strings.HasSuffix(name, pieces[end])
}
