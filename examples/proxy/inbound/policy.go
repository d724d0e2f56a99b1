package inbound

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/pullthrough/pullthrough/auth"
)

// MinToken is how many characters a static token has at least. A shorter one could be
// guessed, so it opens nothing.
const MinToken = 16

// Anyone is the name in a [Grant] that stands for every user of the htpasswd file, or for every
// client certificate.
const Anyone = "*"

// Policy is who may pull what. A Policy must not change once it is in use, apart from its
// Passwords.
type Policy struct {
	// Passwords are the users that may log in. If nil, there are none.
	Passwords *Passwords
	// Users says what users may pull. What [Anyone] may pull is added to what a user may
	// pull by name. A user who is not named may log in and pull what Anonymous says.
	Users []Grant
	// Tokens are static tokens. They are shown as Authorization: Bearer, or, by clients
	// that can only log in, as the password of a user with the name of the token.
	Tokens []Token
	// Certificates says what clients may pull that have shown a certificate, by one of
	// its names: the common name of its subject, or an alternative name (DNS name, email
	// address, URI).
	Certificates []Grant
	// Anonymous is what everybody may pull, without credentials or with any.
	Anonymous Patterns
}

// Open reports whether everybody may pull everything.
func (p *Policy) Open() bool { return p.Anonymous.all() }

// Grant says what somebody may pull.
type Grant struct {
	Name string
	Pull Patterns
}

// Token is a static token.
type Token struct {
	Grant
	// Secret is the token itself. It is read when the policy comes into force and at
	// every [Gate.Refresh].
	Secret auth.Secret
}

// The kinds of those who ask, before the name in a subject.
const (
	kindUser        = "user:"
	kindToken       = "token:"
	kindCertificate = "certificate:"
	anonymous       = "anonymous"
)

// mac is a keyed hash. What it is made of cannot be found from it, and to look one up in a map
// takes a time that says nothing of a secret.
type mac [sha256.Size]byte

// macKey is a key that never leaves the process.
type macKey [32]byte

// of hashes texts, each with its length.
func (k *macKey) of(texts ...[]byte) (sum mac) {
	h := hmac.New(sha256.New, k[:])
	for _, text := range texts {
		fmt.Fprintf(h, "%d:", len(text))
		h.Write(text)
	}
	h.Sum(sum[:0])
	return sum
}

// rights is a policy in force.
type rights struct {
	policy   *Policy
	patterns map[string]Patterns // by subject, such as user:alice
	tokens   map[mac]string      // subjects of static tokens
	problems []string            // with the policy, for the log
}

// compile puts a policy in order, and reads its tokens.
func (p *Policy) compile(ctx context.Context, key *macKey) *rights {
	r := &rights{policy: p, patterns: map[string]Patterns{anonymous: p.Anonymous}, tokens: map[mac]string{}}
	for _, g := range p.Users {
		r.grant(kindUser, g)
	}
	for _, g := range p.Certificates {
		r.grant(kindCertificate, g)
	}
	for _, t := range p.Tokens {
		r.grant(kindToken, t.Grant)
		r.addToken(ctx, key, t)
	}
	r.addAnyone(kindUser)
	r.addAnyone(kindCertificate)
	for subject, own := range r.patterns {
		if subject != anonymous {
			r.patterns[subject] = slices.Concat(own, p.Anonymous)
		}
	}
	r.compareUsers()
	return r
}

// grant adds what a subject may pull.
func (r *rights) grant(kind string, g Grant) {
	r.patterns[kind+g.Name] = append(r.patterns[kind+g.Name], g.Pull...)
}

// addToken reads a token. One that cannot be used opens nothing.
func (r *rights) addToken(ctx context.Context, key *macKey, t Token) {
	value, _, err := t.Secret.Read(ctx)
	text := value.Reveal()
	sum := key.of([]byte(text))
	switch {
	case err != nil:
		r.problem("the token %q opens nothing: %v", t.Name, err)
	case len(text) < MinToken:
		r.problem("the token %q opens nothing: it has less than %d characters and could be guessed; make one with: openssl rand -hex 32", t.Name, MinToken)
	case r.tokens[sum] != "":
		r.problem("the token %q opens nothing: another one has the same value", t.Name)
	default:
		r.tokens[sum] = kindToken + t.Name
	}
}

// compareUsers notes users that are known in one place only.
func (r *rights) compareUsers() {
	users := r.policy.Passwords.names()
	_, anyone := r.patterns[kindUser+Anyone]
	for _, g := range r.policy.Users {
		if _, found := slices.BinarySearch(users, g.Name); g.Name != Anyone && !found {
			r.problem("user %q cannot log in: there is no such user in the htpasswd file", g.Name)
		}
	}
	const most = 20
	var idle []string
	for _, name := range users {
		if _, named := r.patterns[kindUser+name]; !named && !anyone && len(idle) < most {
			idle = append(idle, name)
		}
	}
	if len(idle) > 0 {
		r.problem("users of the htpasswd file have no patterns of what they may pull: %q", idle)
	}
}

// problem notes something that the operator should know.
func (r *rights) problem(format string, args ...any) {
	r.problems = append(r.problems, fmt.Sprintf(format, args...))
}

// of returns what a subject may pull, and false for a subject that does not exist any more.
func (r *rights) of(subject string) (Patterns, bool) {
	if name, ok := strings.CutPrefix(subject, kindUser); ok {
		all, granted := r.named(subject, kindUser+Anyone)
		if !granted {
			all = r.policy.Anonymous
		}
		_, known := r.policy.Passwords.hash(name)
		return all, known
	}
	if strings.HasPrefix(subject, kindCertificate) {
		return r.named(subject, kindCertificate+Anyone)
	}
	all, known := r.patterns[subject]
	return all, known && (subject != anonymous || len(all) > 0)
}

// named returns the patterns of a subject, or those of anyone if it has none of its own, and false if
// there are neither.
func (r *rights) named(subject, anyone string) (Patterns, bool) {
	if all, ok := r.patterns[subject]; ok {
		return all, true
	}
	all, ok := r.patterns[anyone]
	return all, ok
}

// addAnyone adds what anyone of a kind may pull to what each of them may.
func (r *rights) addAnyone(kind string) {
	for subject, own := range r.patterns {
		if strings.HasPrefix(subject, kind) && subject != kind+Anyone {
			r.patterns[subject] = slices.Concat(own, r.patterns[kind+Anyone])
		}
	}
}
