package rule

import (
	"errors"
	"testing"

	"github.com/pullthrough/pullthrough/auth"
)

// wrapped is an authenticator that wraps another one.
type wrapped struct{ auth.Authenticator }

func (w wrapped) Unwrap() auth.Authenticator { return w.Authenticator }

// lenient has a Check of its own.
type lenient struct{ wrapped }

func (lenient) Check(string) error { return nil }

// TestCheckerInAWrapper: a wrapped authenticator is checked like one that is not wrapped,
// unless the wrapper has a Check of its own.
func TestCheckerInAWrapper(t *testing.T) {
	s := newSet(t, Options{}, "hub docker.io/* -> hub/*")
	hub, quay := wrapped{wrapped{onlyFor{host: "docker.io"}}}, wrapped{onlyFor{host: "quay.io"}}
	if err := s.SetAuth("hub", hub); err != nil {
		t.Error(err)
	}
	err := s.SetAuth("hub", quay)
	wantFaults(t, err, "AuthenticatorNotForLoginServer auth")
	if !errors.Is(err, auth.ErrHost) {
		t.Errorf("the cause is lost: %v", err)
	}
	if err := s.SetAuth("hub", lenient{quay}); err != nil {
		t.Errorf("the Check of the wrapper is bypassed: %v", err)
	}
}
