package inbound

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pullthrough/pullthrough/cache"
)

// The types of resources in scopes.
const (
	typeRepository = "repository"
	typeRegistry   = "registry"
	catalogName    = "catalog"
)

const (
	maxScopes  = 32  // in one request for a token
	maxNameLen = 255 // bytes of a repository's name
)

// repositoryName is the grammar of names of the OCI distribution spec.
var repositoryName = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)

// scope is one resource in a token, with what may be done to it.
type scope struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// has reports whether the scope is for an action on a resource.
func (s scope) has(kind, name, action string) bool {
	return s.Type == kind && s.Name == name && (slices.Contains(s.Actions, action) || slices.Contains(s.Actions, cache.ActionAll))
}

// String returns TYPE:NAME:ACTIONS.
func (s scope) String() string { return s.Type + ":" + s.Name + ":" + strings.Join(s.Actions, ",") }

// parseScopes reads the values of scope, each of which may have several, separated by spaces.
func parseScopes(values []string) ([]scope, error) {
	var all []scope
	for _, value := range values {
		for text := range strings.FieldsSeq(value) {
			if len(all) == maxScopes {
				return nil, fmt.Errorf("there are more than %d scopes", maxScopes)
			}
			one, err := parseScope(text)
			if err != nil {
				return nil, err
			}
			all = append(all, one)
		}
	}
	return all, nil
}

// parseScope reads TYPE:NAME:ACTIONS. The type may have a class, such as repository(plugin).
func parseScope(text string) (scope, error) {
	kind, rest, ok := strings.Cut(text, ":")
	i := strings.LastIndexByte(rest, ':')
	if !ok || i < 0 || len(rest) > 2*maxNameLen {
		return scope{}, fmt.Errorf("a scope is TYPE:NAME:ACTIONS, such as repository:hub/library/alpine:pull")
	}
	kind, _, _ = strings.Cut(kind, "(")
	return scope{Type: kind, Name: rest[:i], Actions: strings.Split(rest[i+1:], ",")}, nil
}

// covers reports whether one of the scopes of a token is for an access. The token service has put the
// canonical name into the token beside the one that the client has asked for.
func covers(scopes []scope, a cache.Access) bool {
	return slices.ContainsFunc(scopes, func(s scope) bool {
		if a.Kind == cache.AccessCatalog {
			return s.has(typeRegistry, catalogName, cache.ActionAll)
		}
		return s.has(typeRepository, a.Repository, cache.ActionPull)
	})
}
