package azure_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/auth/azure"
	"github.com/pullthrough/pullthrough/auth/azuretest"
)

// TestVaultValueThatWorked: a value that worked and is refused was probably
// rotated, and is read again at once; one that never worked waits.
func TestVaultValueThatWorked(t *testing.T) {
	for name, c := range map[string]struct {
		worked  bool
		rotate  bool
		again   string // what is read after the refusal
		reading int    // how many readings a crowd of refusals causes
	}{
		"worked and rotated":       {true, true, "rotated", 1},
		"worked and not rotated":   {true, false, "one", 1},
		"never worked and rotated": {false, true, "one", 0},
		"never worked":             {false, false, "one", 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t)
				v := s.NewVault("v")
				k := vaultSecret(s, v, "password", "one")
				read(t, k, "one")
				if c.worked {
					k.Accepted()
				}
				if c.rotate {
					v.Set("password", "rotated")
				}
				s.Reset()
				for range 20 {
					k.Invalidate()
				}
				for range 20 {
					read(t, k, c.again)
					k.Invalidate()
				}
				s.want("refused at once", azuretest.KeyVault, c.reading)
			})
		})
	}
}

// TestVaultAlternates: a value that was read again after a refusal, and was unchanged, is
// read once in 10 seconds, though it is accepted in between. One that was rotated is read
// at once, as often as it is rotated.
func TestVaultAlternates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		v := s.NewVault("v")
		k := vaultSecret(s, v, "password", "value-0")
		read(t, k, "value-0")
		for i := range 10 {
			k.Accepted()
			v.Set("password", fmt.Sprint("value-", i+1))
			s.Reset()
			k.Invalidate()
			read(t, k, fmt.Sprint("value-", i+1))
			s.want("rotated", azuretest.KeyVault, 1)
		}
		s.Reset()
		for period := 1; period <= 3; period++ {
			for range 20 {
				k.Accepted()
				k.Invalidate()
				read(t, k, "value-10")
			}
			s.want(fmt.Sprint("period ", period), azuretest.KeyVault, period)
			time.Sleep(10 * time.Second)
		}
	})
}

// TestServicePrincipalWithAVault: the secret of a service principal learns from
// its registry whether it worked, and is read again with the refresh token.
func TestServicePrincipalWithAVault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		app, v := s.NewServicePrincipal(""), s.NewVault("v")
		s.registry.Grant(app.PrincipalID, "team-a/api")
		sp, err := azure.NewServicePrincipal(s.options(), s.TenantID(), app.ClientID, vaultSecret(s, v, "client", app.Secret()))
		if err != nil {
			t.Fatal(err)
		}
		pull := func(what string, counts ...any) {
			t.Helper()
			s.Reset()
			if err := s.pull("rule", "team-a/api", sp); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			s.want(what, counts...)
		}
		pull("the first pull", azuretest.KeyVault, 2, azuretest.Exchange, 1) // the challenge and the secret
		for range 3 {
			app.Rotate()
			v.Set("client", app.Secret())
			s.registry.ForgetTokens()
			pull("rotated and forgotten", azuretest.KeyVault, 1, azuretest.Exchange, 1)
		}
		s.registry.ForgetTokens()
		pull("forgotten", azuretest.KeyVault, 1, azuretest.Exchange, 1)
		s.registry.ForgetTokens()
		pull("forgotten again, and the secret was read just now", azuretest.KeyVault, 0, azuretest.Exchange, 1)
		time.Sleep(time.Hour) // background work of the SDK, if any, has ended
	})
}

// TestLateReportsAndTheSecret: a late report to a service principal does not concern its
// secret either.
func TestLateReportsAndTheSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		app, v := s.NewServicePrincipal(""), s.NewVault("v")
		sp, err := azure.NewServicePrincipal(s.options(), s.TenantID(), app.ClientID, vaultSecret(s, v, "client", app.Secret()))
		if err != nil {
			t.Fatal(err)
		}
		r := auth.Request{Rule: "r", Host: dev, Repository: "team-a/api"}
		get := func(what string, readings int) auth.Credential {
			t.Helper()
			s.Reset()
			c, err := s.credential(sp)
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
			s.want(what, azuretest.KeyVault, readings)
			return c
		}
		rotate := func() {
			app.Rotate()
			v.Set("client", app.Secret())
		}
		first := get("the challenge and the secret", 2)
		sp.Accepted(r, first)
		rotate()
		sp.Invalidate(r, first)
		second := get("a secret that worked", 1)
		sp.Accepted(r, second)
		sp.Invalidate(r, first)
		get("a late refusal", 0)
		rotate()
		sp.Invalidate(r, second)
		third := get("a secret that worked", 1)
		sp.Accepted(r, second)
		sp.Invalidate(r, third)
		if get("a late success", 0).Version != third.Version {
			t.Error("a late success is one of the new token")
		}
		time.Sleep(time.Hour) // background work of the SDK, if any, has ended
	})
}
