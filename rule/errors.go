package rule

import (
	"errors"
	"fmt"
)

// Code names a kind of fault, as ACR's error codes do. It is an error, so that callers
// can test for it, as with errors.Is(err, CodeRuleNotFound).
type Code string

// Codes that ACR documents.
const (
	CodeUpstreamNotSupported Code = "UpstreamNotSupported"
	CodeDockerAuthentication Code = "EnforceDockerAuthentication"
	CodeTargetPresent        Code = "TargetRepositoryAlreadyPresentInRegistry"
	CodeTargetPrefixPresent  Code = "TargetRepositoryPrefixMatchesExistingRegistries"
	CodeRepositoryName       Code = "InvalidRepositoryName"            // the code is not of ACR, but the sentence is
	CodeIdentityID           Code = "InvalidManagedIdentityResourceId" // likewise
	CodeCredentialSetID      Code = "InvalidCredentialSetResourceId"
)

// Codes of this package, for faults for which ACR documents no code or which it does
// not have.
const (
	CodeRuleName                  Code = "InvalidCacheRuleName"
	CodeRuleExists                Code = "CacheRuleAlreadyExists"
	CodeRuleNotFound              Code = "CacheRuleNotFound"
	CodeRuleLimit                 Code = "CacheRuleLimitReached"
	CodeLoginServer               Code = "InvalidLoginServer"
	CodeWildcard                  Code = "InvalidWildcard"
	CodeOverlap                   Code = "TargetRepositoryConflictsWithCacheRule"
	CodeUpstreamAuthentication    Code = "EnforceUpstreamAuthentication"
	CodeAnonymousOnly             Code = "UpstreamAuthenticationNotSupported"
	CodeAuthenticator             Code = "AuthenticatorNotForLoginServer"
	CodeAuthenticationConflict    Code = "ConflictingAuthentication"
	CodeAuthenticationUnsupported Code = "AuthenticationNotSupportedForSource"
	CodePlatforms                 Code = "InvalidPlatforms"
	CodeProperty                  Code = "InvalidProperty"
	CodeUnresolved                Code = "UnresolvedAuthentication"
)

// Error returns the code.
func (c Code) Error() string { return string(c) }

// Error is one fault of one rule. errors.Is finds its Code, and the cause if there is
// one. Several faults are joined, in the order that [Set.Assign] documents.
type Error struct {
	// Code says what kind of fault it is.
	Code Code
	// Rule is the name of the rule. It is empty if the rule has none.
	Rule string
	// Field is the faulty field: name, source, target, auth, platforms, or a path in
	// JSON such as properties.sourceRepository. It is empty if the fault is not that
	// of one field.
	Field string
	// Message describes the fault in a sentence. It holds no secret.
	Message string
	// Err is the cause, or nil if there is none.
	Err error
}

// Error returns rule, field, code and message.
func (e *Error) Error() string {
	text := "rule"
	if e.Rule != "" {
		text += fmt.Sprintf(" %q", e.Rule)
	}
	if e.Field != "" {
		text += ": " + e.Field
	}
	return text + ": " + string(e.Code) + ": " + e.Message
}

// Unwrap returns the code and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Code}
	}
	return []error{e.Code, e.Err}
}

// faults collects all faults of one rule.
type faults struct {
	rule string
	list []error
}

func (f *faults) add(code Code, field, format string, args ...any) {
	f.list = append(f.list, &Error{Code: code, Rule: f.rule, Field: field, Message: fmt.Sprintf(format, args...)})
}

func (f *faults) wrap(code Code, field string, err error) {
	f.list = append(f.list, &Error{Code: code, Rule: f.rule, Field: field, Message: err.Error(), Err: err})
}

func (f *faults) err() error { return errors.Join(f.list...) }
