package auth

import (
	"context"
	"testing"
)

// inner has every optional ability that an Authenticator may have, except Invalidator.
type inner struct {
	Anonymous
	told []string
}

func (i *inner) Renew(Request, Credential, bool) { i.told = append(i.told, "renew") }
func (i *inner) Accepted(Request, Credential)    { i.told = append(i.told, "accepted") }
func (i *inner) Refused(Request, Credential, Refusal) error {
	i.told = append(i.told, "refused")
	return nil
}
func (i *inner) Check(string) error { i.told = append(i.told, "check"); return ErrHost }

// wrapper adds nothing, and has an Unwrap.
type wrapper struct{ Authenticator }

func (w wrapper) Unwrap() Authenticator { return w.Authenticator }

// closed wraps an Authenticator without an Unwrap.
type closed struct{ Authenticator }

// checking has a Check of its own.
type checking struct{ wrapper }

func (checking) Check(string) error { return nil }

// invalidating has an Invalidate of its own.
type invalidating struct{ wrapper }

func (invalidating) Invalidate(Request, Credential) {}

func TestAsLooksThroughWrappers(t *testing.T) {
	in := &inner{}
	deep := wrapper{wrapper{in}}
	if c, ok := As[Checker](deep); !ok || c.Check("x") == nil || len(in.told) != 1 {
		t.Error("an ability is not found through two wrappers")
	}
	if _, ok := As[Observer](closed{in}); ok {
		t.Error("an ability is found through something that does not unwrap")
	}
	if _, ok := As[Checker](nil); ok {
		t.Error("nothing has an ability")
	}
	if _, ok := As[Checker](wrapper{}); ok {
		t.Error("a wrapper of nothing has an ability")
	}
}

// TestAWrapperIsNotBypassed: an ability of the wrapper hides that of the inner
// Authenticator, in either form.
func TestAWrapperIsNotBypassed(t *testing.T) {
	in := &inner{}
	if c, ok := As[Checker](checking{wrapper{in}}); !ok || c.Check("x") != nil {
		t.Error("the Check of the inner Authenticator is used")
	}
	w := invalidating{wrapper{in}}
	if _, ok := As[Renewer](w); ok {
		t.Error("an inner Renewer takes the place of the wrapper's Invalidate")
	}
	if i, ok := As[Invalidator](wrapper{w}); !ok || i != Invalidator(w) {
		t.Errorf("%v: the wrapper's Invalidate is not found", i)
	}
	if _, ok := As[Observer](w); !ok {
		t.Error("an ability that the wrapper does not have is hidden")
	}
	// The other way round: a wrapper that is a Renewer, around an Invalidator.
	if _, ok := As[Invalidator](renewing{wrapper{&CredentialSet{}}}); ok {
		t.Error("an inner Invalidator takes the place of the wrapper's Renew")
	}
}

// renewing has a Renew of its own.
type renewing struct{ wrapper }

func (renewing) Renew(Request, Credential, bool) {}

// noting is a secret that caches its value.
type noting struct {
	Value
	invalidated, accepted int
}

func (n *noting) Invalidate() { n.invalidated++ }
func (n *noting) Accepted()   { n.accepted++ }

// traced is a Secret that wraps another one.
type traced struct{ Secret }

func (t traced) Unwrap() Secret { return t.Secret }

// TestWrappedSecretsAreInformed: a credential set informs a wrapped secret whether it
// was accepted.
func TestWrappedSecretsAreInformed(t *testing.T) {
	n := &noting{Value: Value{NewSensitive("hunter2")}}
	s := &CredentialSet{LoginServer: "a.example", Username: Value{NewSensitive("alice")}, Password: traced{traced{n}}}
	r := Request{Host: "a.example"}
	c, err := s.Credential(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	s.Accepted(r, c)
	s.Invalidate(r, c)
	if n.accepted != 1 || n.invalidated != 1 {
		t.Errorf("accepted %d times, invalidated %d times, want once each", n.accepted, n.invalidated)
	}
	if _, ok := SecretAs[SecretObserver](nil); ok {
		t.Error("nothing has an ability")
	}
	if _, ok := SecretAs[SecretObserver](struct{ Secret }{n}); ok {
		t.Error("an ability is found through something that does not unwrap")
	}
}
