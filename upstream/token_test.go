package upstream

import (
	"context"
	"errors"
	"testing"

	orasauth "oras.land/oras-go/v2/registry/remote/auth"

	"github.com/pullthrough/pullthrough/auth"
)

// The question to a token server must outlive the one who asked it first.
func TestAQuestionForATokenBelongsToNobody(t *testing.T) {
	s := newSessions(nil).get(Source{Rule: "r", Host: "hub.example"}, auth.Credential{Username: "alice"}, nil)
	cache := s.client.Cache
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		_, err := cache.Set(ctx, "hub.example", orasauth.SchemeBearer, "scope", func(ctx context.Context) (string, error) {
			leave()
			<-left
			done <- ctx.Err()
			return "token", nil
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("who left got %v", err)
		}
		close(left)
	}()
	if err := <-done; err != nil {
		t.Errorf("the question ended with who asked it: %v", err)
	}
}

func TestANewCredentialStartsAnew(t *testing.T) {
	all := newSessions(nil)
	src := Source{Rule: "r", Host: "hub.example", Repository: "a"}
	secret := func(text, version string) auth.Credential {
		return auth.Credential{Username: "alice", Password: auth.NewSensitive(text), Version: version}
	}
	first := all.get(src, secret("a", "1"), nil)
	other := src
	other.Repository = "b"
	if all.get(other, secret("a", "1"), nil) != first {
		t.Error("another repository of the rule has another session")
	}
	stranger := src
	stranger.Rule = "s"
	if all.get(stranger, secret("a", "1"), nil) == first {
		t.Error("another rule has the same session")
	}
	if all.get(src, secret("a", "1"), first) == first {
		t.Error("a session that was refused is used again")
	}
	for _, c := range []auth.Credential{secret("a", "2"), secret("b", "2"), {}} {
		if s := all.get(src, c, nil); s == first {
			t.Errorf("another credential has the same session")
		}
	}
}
