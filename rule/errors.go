package rule

import (
	"errors"
	"fmt"
)

// Code names a kind of fault, as ACR's error codes do. It is itself an error,
// so that errors.Is(err, CodeRuleNotFound) asks for it.
type Code string

// Codes that ACR documents.
const (
	CodeUpstreamNotSupported Code = "UpstreamNotSupported"
	CodeDockerAuthentication Code = "EnforceDockerAuthentication"
	CodeTargetPresent        Code = "TargetRepositoryAlreadyPresentInRegistry"
	CodeTargetPrefixPresent  Code = "TargetRepositoryPrefixMatchesExistingRegistries"
	CodeRepositoryName       Code = "InvalidRepositoryName"            // ACR's sentence; the code is ours
	CodeIdentityID           Code = "InvalidManagedIdentityResourceId" // ACR's sentence; the code is ours
	CodeCredentialSetID      Code = "InvalidCredentialSetResourceId"
)

// Codes of our own, for what ACR refuses without a documented code, or cannot
// refuse.
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

// Error is one fault of one rule. errors.Is finds its Code, and the cause if
// there is one. Several faults come joined, in the order that [Set.Assign] tells.
type Error struct {
	// Code says what kind of fault it is.
	Code Code
	// Rule is the name of the rule; empty: none was given.
	Rule string
	// Field is what is wrong: name, source, target, auth, or a path in JSON such
	// as properties.sourceRepository. Empty: the rule as a whole.
	Field string
	// Message is a sentence for people. It holds no secret.
	Message string
	// Err is the cause; nil: none.
	Err error
}

// Error names rule, field and code, then says the sentence.
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

// faults collects what is wrong with one rule, all of it.
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
