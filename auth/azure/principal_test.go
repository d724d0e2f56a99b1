package azure_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/auth/azure"
	"github.com/pullthrough/pullthrough/auth/azuretest"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// rotating is a secret that can change.
type rotating struct {
	mu          sync.Mutex
	text        string
	err         error
	invalidated int
}

func (r *rotating) Read(context.Context) (auth.Sensitive, string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return auth.NewSensitive(r.text), "", r.err
}

func (r *rotating) Invalidate() { r.invalidated++ }

func TestServicePrincipal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		app := s.NewServicePrincipal(other)
		s.registry = s.NewRegistryIn(other, dev) // a source in another tenant
		s.registry.Content.AddImage("team-a/api", "v1", upstreamtest.Layers(1, 100))
		s.registry.Grant(app.PrincipalID, "team-a/api")
		secret := &rotating{text: app.Secret()}
		sp, err := azure.NewServicePrincipal(s.options(), other, app.ClientID, secret)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := s.pull("rule", "team-a/api", sp); err != nil {
				t.Fatal(err)
			}
		}
		s.want("twice", azuretest.Exchange, 1, azuretest.Token, 1, azuretest.IMDS, 0)
		denied(t, s.pull("rule", "team-b/api", sp), "service principal "+app.ClientID, "AcrPull")
		if secret.invalidated != 1 {
			t.Errorf("a secret that is kept was invalidated %d times", secret.invalidated)
		}
		app.Rotate()
		secret.text = app.Secret()
		if err := s.pull("rule", "team-a/api", sp); err != nil {
			t.Errorf("rotated: %v", err)
		}
		s.want("what the old secret earned is gone", azuretest.Exchange, 2)

		secret.text = "wrong-secret"
		err = s.pull("rule", "team-a/api", sp)
		denied(t, err, "Entra refuses a token", app.ClientID)
		if !strings.Contains(err.Error(), "AADSTS7000215") || strings.Contains(err.Error(), "wrong-secret") {
			t.Errorf("%v", err)
		}
		secret.err = context.DeadlineExceeded
		denied(t, s.pull("rule", "team-a/api", sp), "cannot be read")
		time.Sleep(time.Hour) // background work of the SDK, if any, has ended
	})
}
