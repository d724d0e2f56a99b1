package main

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/auth/azure"
)

// secret returns the secret for the library. It is nil for a secret with a mistake, which
// was noted when it was read.
func (s secretConfig) secret(ids *azure.Identities, identity word, found *mistakes) auth.Secret {
	switch {
	case s.keyVault.text != "":
		k, err := ids.KeyVaultSecret(s.keyVault.text, identity.text)
		if err == nil {
			return k
		}
		found.add(s.keyVault.position, "%s", plain(err))
	case s.value.text != "":
		return auth.Value{Text: auth.NewSensitive(s.value.text)}
	case s.env.text != "":
		return auth.Env(s.env.text)
	case s.file.text != "":
		return auth.File(s.file.text)
	}
	return nil
}

// newCredentials returns the credential sets by name.
func newCredentials(list []credentialConfig, ids *azure.Identities, found *mistakes) map[string]*auth.CredentialSet {
	sets := map[string]*auth.CredentialSet{}
	lines := map[string]int{}
	for _, one := range list {
		name := one.name.text
		if name == "" {
			continue
		}
		if line := lines[name]; line != 0 {
			found.add(one.name.position, "%q is the name of the credentials in line %d too", name, line)
			continue
		}
		lines[name] = one.line
		host, _ := canonical(one.loginServer, found)
		if one.identity.text != "" {
			if _, err := ids.UserAssigned(one.identity.text); err != nil {
				found.add(one.identity.position, "%s", plain(err))
				one.identity.text = ""
			}
		}
		sets[name] = &auth.CredentialSet{
			Name:        name,
			LoginServer: host,
			Username:    one.username.secret(ids, one.identity, found),
			Password:    one.password.secret(ids, one.identity, found),
		}
	}
	return sets
}

// warnTimeout is how long reading the secrets may delay the start, or the next reload.
const warnTimeout = 5 * time.Second

// warn reads every secret once, and logs those that cannot be read. The proxy goes on then:
// the file of a secret may appear later, and other rules work.
func warn(ctx context.Context, sets map[string]*auth.CredentialSet, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, warnTimeout)
	defer cancel()
	for _, name := range slices.Sorted(maps.Keys(sets)) {
		set := sets[name]
		if _, err := set.Credential(ctx, auth.Request{Host: set.LoginServer}); err != nil {
			log.Warn("credentials cannot be read; pulls that need them will fail", "credentials", set.Name, "error", err)
		}
	}
}
