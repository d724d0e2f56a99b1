package upstream

import (
	"net/url"
	"testing"
)

func TestOriginHasNoDefaultPort(t *testing.T) {
	for in, want := range map[string]string{
		"https://Hub.example:443/x": "https://hub.example", "https://hub.example": "https://hub.example", "http://hub.example:80": "http://hub.example",
		"https://hub.example:80": "https://hub.example:80", "http://hub.example:443": "http://hub.example:443", "https://hub.example:8443": "https://hub.example:8443",
		"https://[::1]:443": "https://[::1]", "http://[::1]:80/x": "http://[::1]", "https://[::443]": "https://[::443]", "https://127.0.0.1:4430": "https://127.0.0.1:4430",
	} {
		u, err := url.Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := originOf(u).String(); got != want {
			t.Errorf("the origin of %s is %s, want %s", in, got, want)
		}
	}
}
