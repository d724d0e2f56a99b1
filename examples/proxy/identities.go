package main

import (
	"errors"
	"strings"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/auth/azure"
	"github.com/pullthrough/pullthrough/webhook"
)

// newIdentities returns the identities that are assigned to this registry.
func newIdentities(c *config, found *mistakes) *azure.Identities {
	var o azure.Options
	for _, one := range []struct {
		word
		options azure.Options
	}{{c.tenant, azure.Options{TenantID: c.tenant.text}}, {c.cloud, azure.Options{Cloud: azure.Cloud(c.cloud.text)}}} {
		if _, err := azure.NewIdentities(one.options); err != nil {
			found.add(one.position, "%s", plain(err))
			continue
		}
		if one.options.TenantID != "" {
			o.TenantID = one.options.TenantID
		}
		if one.options.Cloud != "" {
			o.Cloud = one.options.Cloud
		}
	}
	ids, _ := azure.NewIdentities(o) // both options were checked above
	lines := map[string]int{}
	for _, w := range c.identities {
		key := strings.ToLower(w.text)
		if line := lines[key]; line != 0 && key != "" {
			found.add(w.position, "is given in line %d already", line)
			continue
		}
		lines[key] = w.line
		if w.text == "" {
			continue // noted when it was read
		}
		if err := ids.Assign(w.text); err != nil {
			found.add(w.position, "%s", plain(err))
		}
	}
	return ids
}

// newSources returns the declarations of source registries.
func newSources(c *config, found *mistakes) azure.Sources {
	s := azure.Sources{TenantID: c.tenant.text, Hosts: map[string]azure.Source{}}
	for _, one := range c.upstreams {
		if one.azure.line == 0 {
			continue
		}
		if _, err := azure.NewIdentities(azure.Options{TenantID: one.azure.tenant.text}); err != nil {
			found.add(one.azure.tenant.position, "%s", plain(err))
			continue
		}
		source := azure.Source{TenantID: one.azure.tenant.text, Network: azure.Network(one.azure.network.text), TrustedServices: one.azure.trustedServices}
		anybody := azure.Source{Network: source.Network, TrustedServices: true}
		if err := anybody.Supports("", azure.FormCredentials); err != nil {
			found.add(one.azure.network.position, "%s", plain(err))
			continue
		}
		if host := host(one.host.text); host != "" {
			s.Hosts[host] = source
		}
	}
	return s
}

// plain returns the text of an error of the library without the name of its package, or the
// reason of a refused credential.
func plain(err error) string {
	if denied, ok := errors.AsType[*auth.DeniedError](err); ok {
		return denied.Reason
	}
	text := err.Error()
	for _, prefix := range []string{"azure: ", "auth: ", "s3: ", "azblob: ", webhook.ErrConfig.Error() + ": ", "webhook: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return text
}
