package acr

import (
	"strings"
	"testing"
)

func TestLoginServer(t *testing.T) {
	for _, host := range []string{"devregistry.azurecr.io", "dev.azurecr.cn", "dev1.azurecr.us", "old.azurecr.de", "contoso-e7ggejfuhzhgedc8.azurecr.io"} {
		if d, ok := LoginServer(host); !ok || !strings.HasSuffix(host, d.Suffix) {
			t.Errorf("%q is a login server", host)
		}
	}
	for _, host := range []string{
		"", "azurecr.io", ".azurecr.io", "-.azurecr.io", "a-.azurecr.io", "Dev.azurecr.io", "dev.azurecr.io.", "dev.azurecr.io:443", "dev.azurecr.io:5000",
		"dev.eastus.data.azurecr.io", "dev.eastus.geo.azurecr.io", "devazurecr.io", "evil-azurecr.io", "dev.azurecr.io.evil.example", "dev.azurecr.com",
		"dev_1.azurecr.io", "a.b.azurecr.io", "127.0.0.1", "[::1]", "x@dev.azurecr.io", "dev/azurecr.io", strings.Repeat("a", 64) + ".azurecr.io",
	} {
		if _, ok := LoginServer(host); ok {
			t.Errorf("%q is no login server", host)
		}
	}
}

// TestDomains: no suffix has two meanings, be it in one cloud or in two.
func TestDomains(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range Domains() {
		for _, suffix := range []string{d.Suffix, d.Data, d.Storage, d.Vault} {
			if suffix == "" || suffix[0] != '.' || seen[suffix] {
				t.Errorf("%q in %+v", suffix, d)
			}
			seen[suffix] = true
		}
		if got, ok := DomainOf("registry" + d.Suffix + ":443"); !ok || got != d {
			t.Errorf("%+v, %v, want %+v", got, ok, d)
		}
	}
}

func TestCompanion(t *testing.T) {
	for target, want := range map[string]bool{
		"dev.eastus.data.azurecr.io": true, "store1.blob.core.windows.net.": true, "STORE1.blob.core.windows.net": true,
		"blob.core.windows.net": false, "store1.blob.core.usgovcloudapi.net": false, "data.azurecr.io.evil.example": false, "evil.example": false,
	} {
		if got := Companion("dev.azurecr.io", target); got != want {
			t.Errorf("%q: %v", target, got)
		}
	}
	if Companion("docker.io", "store1.blob.core.windows.net") {
		t.Error("Docker Hub has no storage at Azure")
	}
}

func TestExplain(t *testing.T) {
	const firewall = "client with IP '203.0.113.7' is not allowed access. Refer https://aka.ms/acr/firewall to grant access."
	for _, c := range []struct {
		status       int
		message      string
		has, without string
	}{
		{403, firewall, "client IP 203.0.113.7", "AcrPull"},
		{403, "client with IP 'Bearer-secret' is not allowed access", "this network", "secret"},
		{403, "requested access is denied", "7f951dda-4ed3-4680-a7ca-43fe172d538d", "denied"},
		{403, "", "either this network is not let in", "203.0.113.7"},
		{401, "authentication required", "bfdb9389-c9a5-478a-bb2f-ba9ca092c3c7", "required"},
		{401, firewall, "b93aa761-3e63-49ed-ac28-beffa264f7ac", "203.0.113.7"},
	} {
		got := Explain("dev.azurecr.io", "team-a/api", "identity 'x'", c.status, c.message)
		if !strings.Contains(got, c.has) || strings.Contains(got, c.without) || !strings.Contains(got, "identity 'x'") || !strings.Contains(got, "dev.azurecr.io") {
			t.Errorf("%d %q: %s", c.status, c.message, got)
		}
	}
	for _, status := range []int{200, 404, 429, 500} {
		if got := Explain("h", "r", "w", status, firewall); got != "" {
			t.Errorf("%d: %s", status, got)
		}
	}
}
