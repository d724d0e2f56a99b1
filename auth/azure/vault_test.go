package azure_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/auth/azure"
	"github.com/pullthrough/pullthrough/auth/azuretest"
)

// vaultSecret is a secret that holds value, read by an identity of its own.
func vaultSecret(s *scene, v *azuretest.Vault, name, value string) *azure.KeyVaultSecret {
	s.t.Helper()
	u := s.identity()
	v.Grant(s.behind[u].PrincipalID)
	v.Set(name, value)
	k, err := s.ids.KeyVaultSecret(v.SecretID(name), u.ResourceID())
	if err != nil {
		s.t.Fatal(err)
	}
	return k
}

func read(t *testing.T, k *azure.KeyVaultSecret, want string) {
	t.Helper()
	got, version, err := k.Read(t.Context())
	if err != nil || got.Reveal() != want || version == "" {
		t.Errorf("read %d bytes of version %q, %v; want %q", len(got.Reveal()), version, err, want)
	}
}

func TestVaultRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		v := s.NewVault("v")
		k := vaultSecret(s, v, "password", "one")
		read(t, k, "one")
		v.Set("password", "second")
		time.Sleep(4 * time.Minute)
		read(t, k, "one")
		s.want("kept for 5 minutes", azuretest.KeyVault, 2) // the challenge and the secret
		time.Sleep(61 * time.Second)
		read(t, k, "second")

		v.Set("password", "third!!")
		k.Invalidate()
		read(t, k, "second") // the value was read just now
		time.Sleep(10 * time.Second)
		k.Invalidate()
		read(t, k, "third!!")
		n := s.Count(azuretest.KeyVault)
		for range 5 {
			k.Invalidate()
			read(t, k, "third!!")
		}
		s.want("once in 10 seconds", azuretest.KeyVault, n)
	})
}

// TestVaultInTrouble: while the vault fails, the last value is used for an hour.
func TestVaultInTrouble(t *testing.T) {
	for _, code := range []int{429, 500, 503} {
		synctest.Test(t, func(t *testing.T) {
			s := newScene(t)
			k := vaultSecret(s, s.NewVault("v"), "password", "one")
			read(t, k, "one")
			s.Fail(azuretest.KeyVault, status(code))
			time.Sleep(6 * time.Minute)
			read(t, k, "one")
			n := s.Count(azuretest.KeyVault)
			read(t, k, "one")
			s.want("a pause after a failure", azuretest.KeyVault, n)
			time.Sleep(50 * time.Minute)
			read(t, k, "one")
			time.Sleep(5 * time.Minute)
			_, _, err := k.Read(t.Context())
			if _, ok := errors.AsType[*auth.UnavailableError](err); !ok {
				t.Errorf("%d: after an hour: %v", code, err)
			}
			s.Heal()
			time.Sleep(6 * time.Second)
			read(t, k, "one")
		})
	}
}

// TestVaultWhoseIdentityIsInTrouble: a failure to get the token for the vault counts as a failure of
// the vault; that IMDS does not have the identity for a moment says nothing about the secret.
func TestVaultWhoseIdentityIsInTrouble(t *testing.T) {
	for _, code := range []int{404, 410, 429, 500} {
		synctest.Test(t, func(t *testing.T) {
			s := newScene(t)
			s.SetLifetimes(azuretest.Lifetimes{Entra: 10 * time.Minute}) // so that a new one is requested from IMDS
			k := vaultSecret(s, s.NewVault("v"), "password", "one")
			read(t, k, "one")
			s.Reset()
			s.Fail(azuretest.IMDS, status(code))
			time.Sleep(11 * time.Minute)
			read(t, k, "one")
			s.want("a token was wanted", azuretest.IMDS, 1, azuretest.KeyVault, 0)
			time.Sleep(50 * time.Minute)
			_, _, err := k.Read(t.Context())
			if _, ok := errors.AsType[*auth.UnavailableError](err); !ok {
				t.Errorf("%d: after an hour: %v", code, err)
			}
			s.Heal()
			time.Sleep(6 * time.Second)
			read(t, k, "one")
		})
	}
}

// TestVaultThatHangs: a vault that does not respond counts as failed. With a value that may be
// used, a read takes at most two seconds.
func TestVaultThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		k := vaultSecret(s, s.NewVault("v"), "password", "one")
		read(t, k, "one")
		s.Fail(azuretest.KeyVault, azuretest.Fault{Hang: true})
		for range 9 {
			time.Sleep(6 * time.Minute)
			begun := time.Now()
			read(t, k, "one")
			if took := time.Since(begun); took > 2*time.Second {
				t.Errorf("it took %v", took)
			}
		}
		time.Sleep(10 * time.Minute)
		_, _, err := k.Read(t.Context())
		if _, ok := errors.AsType[*auth.UnavailableError](err); !ok {
			t.Errorf("after an hour: %v", err)
		}
		s.Heal()
		time.Sleep(6 * time.Second)
		read(t, k, "one")
	})
}

// TestVaultPinned: a version that the identifier names is read, whatever happens to the others.
func TestVaultPinned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		v := s.NewVault("v")
		u := s.identity()
		v.Grant(s.behind[u].PrincipalID)
		first := v.Set("password", "one")
		v.Set("password", "second")
		v.Disable("password")
		k, err := s.ids.KeyVaultSecret(v.SecretID("password")+"/"+first, u.ResourceID())
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			value, version, err := k.Read(t.Context())
			if err != nil || value.Reveal() != "one" || version != first {
				t.Errorf("version %q, %v", version, err)
			}
			time.Sleep(6 * time.Minute)
		}
		none, err := s.ids.KeyVaultSecret(v.SecretID("password")+"/0123456789", u.ResourceID())
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = none.Read(t.Context())
		denied(t, err, "does not exist")
	})
}

// TestVaultRefuses: a secret that the vault refuses is not used any longer.
func TestVaultRefuses(t *testing.T) {
	for _, code := range []int{401, 403, 404} {
		synctest.Test(t, func(t *testing.T) {
			s := newScene(t)
			k := vaultSecret(s, s.NewVault("v"), "password", "one")
			read(t, k, "one")
			s.Fail(azuretest.KeyVault, status(code))
			time.Sleep(6 * time.Minute)
			for range 2 {
				value, _, err := k.Read(t.Context())
				if _, ok := errors.AsType[*auth.DeniedError](err); !ok || !value.Empty() {
					t.Errorf("%d: %v", code, err)
				}
			}
			s.Heal()
			time.Sleep(6 * time.Second)
			read(t, k, "one")
		})
	}
}

// TestTornPair: a pair that a rotation has made inconsistent is refused and read again, and
// then works.
func TestTornPair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		v := s.NewVault("v")
		user, password := vaultSecret(s, v, "user", "alice"), vaultSecret(s, v, "password", "one")
		set := &auth.CredentialSet{Name: "hub", LoginServer: dev, Username: user, Password: password}
		r := auth.Request{Rule: "r", Host: dev}
		if _, err := set.Credential(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		v.Set("user", "bob")
		v.Set("password", "second")
		time.Sleep(time.Minute)
		user.Invalidate() // only one of the two is new
		torn, err := set.Credential(t.Context(), r)
		if err != nil || torn.Username != "bob" || torn.Password.Reveal() != "one" {
			t.Fatalf("%+v, %v", torn, err)
		}
		time.Sleep(11 * time.Second)
		set.Invalidate(r, torn)
		c, err := set.Credential(t.Context(), r)
		if err != nil || c.Username != "bob" || c.Password.Reveal() != "second" || c.Version == torn.Version {
			t.Errorf("%+v, %v", c, err)
		}
	})
}

func TestVaultIdentity(t *testing.T) {
	s := newScene(t)
	s.NewVault("v")
	const id = "https://v.vault.azure.net/secrets/password"
	if _, err := s.ids.KeyVaultSecret(id, armID("nobody")); !errors.Is(err, azure.ErrNotAssigned) {
		t.Errorf("an identity that is not assigned: %v", err)
	}
	if _, err := s.ids.KeyVaultSecret("https://v.vault.azure.net.evil.example/secrets/password", ""); err == nil {
		t.Error("a vault of somebody else")
	}
	u := s.identity()
	k, err := s.ids.KeyVaultSecret(id, u.ResourceID())
	if err != nil {
		t.Fatal(err)
	}
	s.behind[u].Detach()
	_, _, err = k.Read(t.Context())
	denied(t, err, "Key Vault")
}

// TestVaultDisabled: for a disabled secret, neither the former version nor the cached value is
// used.
func TestVaultDisabled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		v := s.NewVault("v")
		k := vaultSecret(s, v, "password", "one")
		read(t, k, "one")
		v.Set("password", "second")
		v.Disable("password")
		time.Sleep(6 * time.Minute)
		_, _, err := k.Read(t.Context())
		denied(t, err, "Key Vault", "must be enabled")
		v.Set("password", "third!!")
		time.Sleep(6 * time.Second)
		read(t, k, "third!!")
		v.Delete("password")
		time.Sleep(6 * time.Minute)
		_, _, err = k.Read(t.Context())
		denied(t, err, "Key Vault", "does not exist")
	})
}

// TestCredentialSetsOfARegistry: a credential set may hold an ACR token or a service principal.
func TestCredentialSetsOfARegistry(t *testing.T) {
	s := newScene(t)
	s.registry.AddToken("pull-token", "its-password", "team-a/api")
	app := s.NewServicePrincipal("")
	s.registry.Grant(app.PrincipalID, "team-b/api")
	v := s.NewVault("v")
	set := func(name, user, password string) *auth.CredentialSet {
		return &auth.CredentialSet{Name: name, LoginServer: dev,
			Username: vaultSecret(s, v, name+"-user", user), Password: vaultSecret(s, v, name+"-password", password)}
	}
	token, principal := set("token", "pull-token", "its-password"), set("principal", app.ClientID, app.Secret())
	if err := s.pull("rule-a", "team-a/api", token); err != nil {
		t.Error(err)
	}
	if err := s.pull("rule-b", "team-b/api", principal); err != nil {
		t.Error(err)
	}
	denied(t, s.pull("rule-a", "team-b/api", token), "credential set")
	s.want("no exchange for passwords", azuretest.Exchange, 0)
}
