package azure

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"
)

func TestSecretID(t *testing.T) {
	for id, want := range map[string][3]string{
		"https://v-1.vault.azure.net/secrets/user":         {"https://v-1.vault.azure.net", "user", ""},
		"https://V.vault.azure.net/secrets/User-2/0123abc": {"https://V.vault.azure.net", "User-2", "0123abc"},
	} {
		vault, name, version, err := parseSecretID(id, ".vault.azure.net")
		if err != nil || [3]string{vault, name, version} != want {
			t.Errorf("%q: %q %q %q, %v", id, vault, name, version, err)
		}
	}
	for _, bad := range []string{
		"", "user", "http://v.vault.azure.net/secrets/user", "https://v.vault.azure.net", "https://v.vault.azure.net/", "https://v.vault.azure.net/secrets", "https://v.vault.azure.net/secrets/",
		"https://v.vault.azure.net/keys/user", "https://v.vault.azure.net/secrets/user/1/2", "https://v.vault.azure.net/secrets/user/", "https://v.vault.azure.net/secrets/a_b",
		"https://v.vault.azure.net/secrets/user?x=1", "https://v.vault.azure.net/secrets/user?", "https://v.vault.azure.net/secrets/user#x", "https://u:p@v.vault.azure.net/secrets/user",
		"https://v.vault.azure.net:8443/secrets/user", "https://vault.azure.net/secrets/user", "https://.vault.azure.net/secrets/user", "https://a.b.vault.azure.net/secrets/user",
		"https://v.vault.azure.net.evil.example/secrets/user", "https://v.vault.azure.cn/secrets/user", "https://v.vault.azure.net/secrets/%75ser", "https://v.vault.azure.net//secrets/user", "://",
		"https://v.vault.azure.net/secrets/" + strings.Repeat("a", 4096),
	} {
		if _, _, _, err := parseSecretID(bad, ".vault.azure.net"); err == nil || len(err.Error()) > 600 {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzSecretID(f *testing.F) {
	f.Add("https://v.vault.azure.net/secrets/user/1")
	f.Add("https://v.vault.azure.net/%2e%2e/secrets")
	f.Fuzz(func(t *testing.T, id string) {
		vault, name, version, err := parseSecretID(id, ".vault.azure.net")
		if err != nil {
			return
		}
		again := vault + "/secrets/" + name
		if version != "" {
			again += "/" + version
		}
		if again != id || !strings.HasSuffix(vault, ".vault.azure.net") {
			t.Errorf("%q became %q", id, again)
		}
	})
}

func jwt(payload string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".c2ln"
}

func TestLifetime(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for payload, want := range map[string]time.Duration{
		`{"iat":1800000000,"exp":1800010800}`:     3 * time.Hour,
		`{"iat":1700000000,"exp":1700010800}`:     3 * time.Hour, // their clock is behind
		`{"iat":1900000000.5,"exp":1900010800}`:   3 * time.Hour, // ahead
		`{"exp":1800003600}`:                      time.Hour,
		`{"exp":1700000000}`:                      shortestLifetime,
		`{"iat":1800000000,"exp":1799999999}`:     shortestLifetime,
		`{"iat":1,"exp":99999999999}`:             longestLifetime,
		`{"exp":1e300}`:                           unknownLifetime,
		`{"exp":-5}`:                              unknownLifetime,
		`{"exp":"soon"}`:                          unknownLifetime,
		`{}`:                                      unknownLifetime,
		`[1]`:                                     unknownLifetime,
		`{"tid":"t","iat":1800000000,"exp":null}`: unknownLifetime,
	} {
		if got := readClaims(jwt(payload)).lifetime(now); got != want {
			t.Errorf("%s: %v, want %v", payload, got, want)
		}
	}
	for _, token := range []string{"", "opaque", "a.b", "a.!.c", jwt("{")} {
		if c := readClaims(token); c != (claims{}) {
			t.Errorf("%q says %+v", token, c)
		}
	}
}

func FuzzClaims(f *testing.F) {
	f.Add(jwt(`{"tid":"x","iat":1,"exp":2}`))
	f.Fuzz(func(t *testing.T, token string) {
		if d := readClaims(token).lifetime(time.Unix(1_800_000_000, 0)); d < shortestLifetime || d > longestLifetime {
			t.Errorf("%q lives %v", token, d)
		}
	})
}
