package azure_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/auth/azure"
)

// vaultSecret is a secret that holds "one", read by an identity of its own.
func vaultSecret(s *scene) *azure.KeyVaultSecret {
	s.t.Helper()
	k, err := s.ids.KeyVaultSecret("https://v.vault.azure.net/secrets/password", s.identity().ResourceID())
	if err != nil {
		s.t.Fatal(err)
	}
	s.set(func() { s.secrets["password"] = "one" })
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
		k := vaultSecret(s)
		read(t, k, "one")
		s.set(func() { s.secrets["password"] = "second" })
		time.Sleep(4 * time.Minute)
		read(t, k, "one")
		s.want("kept for 5 minutes", "vault", 2) // the challenge and the secret
		time.Sleep(61 * time.Second)
		read(t, k, "second")

		s.set(func() { s.secrets["password"] = "third!!" })
		k.Invalidate()
		read(t, k, "second") // it was read just now
		time.Sleep(10 * time.Second)
		k.Invalidate()
		read(t, k, "third!!")
		n := s.count("vault")
		for range 5 {
			k.Invalidate()
			read(t, k, "third!!")
		}
		s.want("once in 10 seconds", "vault", n)
	})
}

// While the vault is in trouble the last good value serves, for an hour.
func TestVaultInTrouble(t *testing.T) {
	for _, code := range []int{429, 500, 503} {
		synctest.Test(t, func(t *testing.T) {
			s := newScene(t)
			k := vaultSecret(s)
			read(t, k, "one")
			s.set(func() { s.fail["vault"] = status(code) })
			time.Sleep(6 * time.Minute)
			read(t, k, "one")
			n := s.count("vault")
			read(t, k, "one")
			s.want("a pause after a failure", "vault", n)
			time.Sleep(50 * time.Minute)
			read(t, k, "one")
			time.Sleep(5 * time.Minute)
			_, _, err := k.Read(t.Context())
			if _, ok := errors.AsType[*auth.UnavailableError](err); !ok {
				t.Errorf("%d: after an hour: %v", code, err)
			}
			s.set(func() { delete(s.fail, "vault") })
			time.Sleep(6 * time.Second)
			read(t, k, "one")
		})
	}
}

// What the vault refuses is not used any longer.
func TestVaultRefuses(t *testing.T) {
	for _, code := range []int{401, 403, 404} {
		synctest.Test(t, func(t *testing.T) {
			s := newScene(t)
			k := vaultSecret(s)
			read(t, k, "one")
			s.set(func() { s.fail["vault"] = status(code) })
			time.Sleep(6 * time.Minute)
			for range 2 {
				value, _, err := k.Read(t.Context())
				if _, ok := errors.AsType[*auth.DeniedError](err); !ok || !value.Empty() {
					t.Errorf("%d: %v", code, err)
				}
			}
			s.set(func() { delete(s.fail, "vault") })
			time.Sleep(6 * time.Second)
			read(t, k, "one")
		})
	}
}

// A pair that was torn by a rotation is refused, read again and right.
func TestTornPair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		password := vaultSecret(s)
		user, err := s.ids.KeyVaultSecret("https://v.vault.azure.net/secrets/user", s.identity().ResourceID())
		if err != nil {
			t.Fatal(err)
		}
		s.set(func() { s.secrets["user"] = "alice" })
		set := &auth.CredentialSet{Name: "hub", LoginServer: dev, Username: user, Password: password}
		r := auth.Request{Rule: "r", Host: dev}
		if _, err := set.Credential(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		s.set(func() { s.secrets["user"], s.secrets["password"] = "bob", "second" })
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
	s.set(func() { s.gone[u.ResourceID()] = true })
	_, _, err = k.Read(t.Context())
	denied(t, err, "Key Vault")
}
