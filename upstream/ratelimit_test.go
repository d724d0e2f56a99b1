package upstream

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/auth"
)

func TestRateLimitHeaders(t *testing.T) {
	for text, want := range map[string]*RateLimit{
		"":                             nil,
		"soon":                         nil,
		"-1;w=60":                      nil,
		";w=60":                        nil,
		"7.5":                          nil,
		"76":                           {Remaining: 76},
		"76;w=21600":                   {Remaining: 76, Window: 6 * time.Hour},
		" 76 ; W=21600 ":               {Remaining: 76, Window: 6 * time.Hour},
		"0;w=21600":                    {Window: 6 * time.Hour},
		"76;burst=9;w=60":              {Remaining: 76, Window: time.Minute},
		"76;w=60, 1000;w=3600":         {Remaining: 76, Window: time.Minute},
		"76;w=-60":                     {Remaining: 76},
		"76;w=86401":                   {Remaining: 76, Window: 24 * time.Hour},
		"76;w=99999999999999999999":    {Remaining: 76, Window: 24 * time.Hour},
		"99999999999999999999;w=60":    {Remaining: 1<<31 - 1, Window: time.Minute},
		"76;w=60\t;w=30":               {Remaining: 76, Window: 30 * time.Second},
		"76;" + strings.Repeat(";", 9): {Remaining: 76},
	} {
		got := rateLimit(http.Header{"Ratelimit-Remaining": {text}})
		if (got == nil) != (want == nil) || got != nil && *got != *want {
			t.Errorf("%q: %+v, want %+v", text, got, want)
		}
	}
	got := rateLimit(http.Header{"Ratelimit-Remaining": {"76"}, "Ratelimit-Limit": {"100;w=21600"}, "Docker-Ratelimit-Source": {"2001:db8::1"}})
	if want := (RateLimit{Limit: 100, Remaining: 76, Window: 6 * time.Hour, Source: "2001:db8::1"}); got == nil || *got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := rateLimit(http.Header{"Ratelimit-Limit": {"100;w=21600"}}); got != nil {
		t.Errorf("%+v of a limit without what is left of it", got)
	}
}

// FuzzRateLimit: whatever an upstream says, what comes out is bounded and can be shown.
func FuzzRateLimit(f *testing.F) {
	f.Add("76;w=21600", "100;w=21600", "192.0.2.1")
	f.Add("0", "", "b0c1c9a4-4d4b-4b6e-8b5f-2f2a7d4d1e55")
	f.Add("1;w=99999999999999999999, 2", ";;;", "\x00<script>")
	f.Fuzz(func(t *testing.T, left, limit, source string) {
		l := rateLimit(http.Header{"Ratelimit-Remaining": {left}, "Ratelimit-Limit": {limit}, "Docker-Ratelimit-Source": {source}})
		if l == nil {
			return
		}
		if l.Remaining < 0 || l.Limit < 0 || l.Window < 0 || l.Window > maxRateWindow || len(l.Source) > maxRateSource {
			t.Errorf("%+v", l)
		}
		if strings.ContainsAny(l.Source, "<>&\"'\\\x00\n\r ") {
			t.Errorf("the source is %q", l.Source)
		}
	})
}

// TestAccounts: equal for equal credentials, whatever their version, different for all
// others, and different in each Client.
func TestAccounts(t *testing.T) {
	cred := func(user, password, refresh, access, version string) auth.Credential {
		return auth.Credential{Username: user, Password: auth.NewSensitive(password), RefreshToken: auth.NewSensitive(refresh), AccessToken: auth.NewSensitive(access), Version: version}
	}
	a := newAccounts()
	same := a.of(cred("alice", "hunter2", "", "", "1"))
	if same == "" || same != a.of(cred("alice", "hunter2", "", "", "2")) {
		t.Error("one password has two accounts, or none")
	}
	if a.of(auth.Credential{}) != "" {
		t.Error("no credential has an account")
	}
	if newAccounts().of(cred("alice", "hunter2", "", "", "1")) == same {
		t.Error("another Client names the account alike, so that the name can be tried out")
	}
	for _, other := range []auth.Credential{
		cred("alice", "hunter3", "", "", "1"), cred("bob", "hunter2", "", "", "1"), cred("alicehunter2", "", "", "", "1"), cred("", "alicehunter2", "", "", "1"),
		cred("alice", "", "hunter2", "", "1"), cred("alice", "", "", "hunter2", "1"), cred("alice", "hunter2", "x", "", "1"),
	} {
		if a.of(other) == same {
			t.Errorf("%v has the account of another credential", other)
		}
	}
}
