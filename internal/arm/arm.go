// Package arm parses those resource IDs of Azure Resource Manager that cache rules
// name: identities and credential sets.
package arm

import (
	"fmt"
	"strings"
)

// maxID is the length of the longest valid id, in bytes. The limits that ARM sets come
// to less.
const maxID = 1024

// kind is a type of resource, as ARM writes it.
type kind struct {
	provider string
	types    []string
	text     string // for errors
}

var (
	identity      = kind{"Microsoft.ManagedIdentity", []string{"userAssignedIdentities"}, "user-assigned managed identity"}
	credentialSet = kind{"Microsoft.ContainerRegistry", []string{"registries", "credentialSets"}, "credential set"}
)

// Identity returns the canonical form of the id of a user-assigned identity:
// /subscriptions/S/resourceGroups/G/providers/Microsoft.ManagedIdentity/userAssignedIdentities/NAME
// in lower case. ARM ignores the case, but ids are compared as strings.
func Identity(id string) (string, error) { return identity.parse(id) }

// CredentialSet is [Identity] for
// /subscriptions/S/resourceGroups/G/providers/Microsoft.ContainerRegistry/registries/R/credentialSets/NAME.
func CredentialSet(id string) (string, error) { return credentialSet.parse(id) }

func (k kind) parse(id string) (string, error) {
	want := []string{"subscriptions", "", "resourceGroups", "", "providers", k.provider}
	for _, t := range k.types {
		want = append(want, t, "")
	}
	rest, ok := strings.CutPrefix(id, "/")
	parts := strings.Split(rest, "/")
	ok = ok && len(id) <= maxID && len(parts) == len(want)
	for i := 0; ok && i < len(parts); i++ {
		ok = name(parts[i]) && (want[i] == "" || strings.EqualFold(parts[i], want[i]))
	}
	if !ok {
		return "", fmt.Errorf("invalid %s resource ID: %.300s", k.text, id)
	}
	return strings.ToLower(id), nil
}

// name reports whether part consists of characters that ARM allows in some name.
func name(part string) bool {
	for i := range len(part) {
		c := part[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-_.()", c) >= 0) {
			return false
		}
	}
	return part != ""
}

// IsGUID reports whether s is a GUID: 32 hexadecimal digits in groups of 8, 4,
// 4, 4 and 12.
func IsGUID(s string) bool {
	groups := strings.Split(s, "-")
	if len(groups) != 5 {
		return false
	}
	for i, length := range [5]int{8, 4, 4, 4, 12} {
		if len(groups[i]) != length || strings.Trim(groups[i], "0123456789abcdefABCDEF") != "" {
			return false
		}
	}
	return true
}
