package main

import (
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/webhook"
)

// signing is a signing secret.
const signing = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="

// secretURL is a URL that must not be printed.
const secretURL = "https://alice:s3cret-password@hooks.example.com/s3cret-path?key=s3cret-query"

// hooked is a file with a webhook and more of its keys, from line 3 on.
func hooked(more string) string { return "webhooks:\n  - url: " + secretURL + "\n" + more }

// hookAt is a webhook with this URL in line 2.
func hookAt(url string) string { return "webhooks:\n  - url: " + url + "\n" }

// TestWebhookMistakes is [TestMistakes] for webhooks; mistakes in values that may be secret
// are in [TestWebhookSecretMistakes].
func TestWebhookMistakes(t *testing.T) {
	const unknown = "3: webhooks[0].colour: unknown key; known here: actions, format, headers, name, scope, secrets, source, url"
	for _, test := range []struct{ name, file, want string }{
		{"no list", "webhooks: {url: x}\n", "1: webhooks: wants a list, not keys with values"},
		{"no keys", "webhooks:\n  - " + secretURL + "\n", "2: webhooks[0]: wants keys with values, not a single value"},
		{"unknown key", hooked("    colour: x\n"), unknown},
		{"no url", "webhooks:\n  - name: x\n", "2: webhooks[0]: url is missing"},
		{"empty name", hooked("    name:\n"), "3: webhooks[0].name: is empty"},
		{"name twice", hooked("    name: a\n  - {url: http://b.example, name: a}\n"), `4: webhooks[1].name: "a" is the name of the webhook in line 2 too`},
		{"url twice", hooked("    scope: a\n  - url: " + secretURL + "\n"), "4: webhooks[1].url: is that of the webhook in line 2 too; give each of the two a name"},
		{"scope", hooked("    scope: team/*\n"), `3: webhooks[0].scope: scope "team/*" names no repository: REPOSITORY, REPOSITORY:TAG or REPOSITORY:* is expected`},
		{"scope without tag", hooked("    scope: 'team/api:'\n"), `3: webhooks[0].scope: scope "team/api:" names no tag after the colon`},
		{"empty scope", hooked("    scope: ''\n"), "3: webhooks[0].scope: is empty"},
		{"action", hooked("    actions:\n      - push\n      - pull\n"), `5: webhooks[0].actions[1]: "pull" is not push, delete or quarantine`},
		{"no action", hooked("    actions: []\n"), "3: webhooks[0].actions: is empty"},
		{"empty action", hooked("    actions: ['']\n"), "3: webhooks[0].actions[0]: is empty"},
		{"actions in a word", hooked("    actions: push\n"), "3: webhooks[0].actions: wants a list, not a single value"},
		{"format", hooked("    format: json\n"), `3: webhooks[0].format: "json" is none of acr, cloudevents and cloudevents-binary`},
		{"format and source", hooked("    format: json\n    source: /x\n"), `3: webhooks[0].format: "json" is none of`},
		{"source of acr", hooked("    source: /registries/prod\n"), "3: webhooks[0].source: makes no sense with the format acr: only CloudEvents have a source"},
		{"source", hooked("    source: '%zz'\n    format: cloudevents\n"), `3: webhooks[0].source: "%zz" is no URI reference`},
	} {
		t.Run(test.name, func(t *testing.T) { wantDiscreetMistake(t, test.file, test.want) })
	}
}

// wantDiscreetMistake is [wantMistake] for a mistake that must not repeat a secret.
func wantDiscreetMistake(t *testing.T, file, want string) {
	t.Helper()
	wantMistake(t, file, want)
	if said := mistakesOf(t, file); strings.Contains(said, "s3cret") {
		t.Errorf("a secret was told: %s", said)
	}
}

// TestWebhookSecretMistakes is [TestWebhookMistakes] for URLs, headers and secrets.
func TestWebhookSecretMistakes(t *testing.T) {
	const lineBreak = "the value has a line break or another control character in it"
	const badSecret = `a signing secret is not "whsec_" and base64 of 24 to 64 bytes`
	t.Setenv("PROXY_TEST_TEXT", "s3cret\ntext")
	for _, test := range []struct{ name, file, want string }{
		{"empty url", hookAt(""), "2: webhooks[0].url: is empty"},
		{"url without scheme", hookAt("hooks.example.com/s3cret"), "2: webhooks[0].url: the URL of a receiver is not valid"},
		{"url with another scheme", hookAt("ftp://u:s3cret@hooks.example.com/s3cret"), "2: webhooks[0].url: the URL of a receiver at hooks.example.com is neither http nor https"},
		{"url with a bad port", hookAt("http://hooks.example.com:s3cret/"), "2: webhooks[0].url: the URL of a receiver is not valid"},
		{"url with a control character", hookAt(`"http://hooks.example.com/\as3cret"`), "2: webhooks[0].url: the URL of a receiver is not valid"},
		{"url of a variable", hookAt("\n      env: PROXY_TEST_TEXT"), "2: webhooks[0].url: the URL of a receiver is not valid"},
		{"url in a vault", hookAt("\n      keyVault: https://v.vault.azure.net/secrets/hook"), "3: webhooks[0].url.keyVault: is not supported for webhooks: use env or file"},
		{"url of two", hookAt("{env: A, file: s3cret}"), "2: webhooks[0].url: wants exactly one of value, env and file"},
		{"url of none", hookAt("{}"), "2: webhooks[0].url: wants exactly one of value, env and file"},
		{"url in a list", hookAt("[s3cret]"), "2: webhooks[0].url: wants keys with values, not a list"},
		{"url of an unknown source", hookAt("{vault: s3cret}"), "2: webhooks[0].url.vault: unknown key; known here: env, file, value"},
		{"variable twice", hookAt("{env: PROXY_TEST_NOTHING}") + "  - url: {env: PROXY_TEST_NOTHING}\n", "3: webhooks[1].url: is that of the webhook in line 2 too"},
		{"headers in a list", hooked("    headers: [X-Token]\n"), "3: webhooks[0].headers: wants keys with values, not a list"},
		{"no headers", hooked("    headers:\n"), "3: webhooks[0].headers: wants keys with values, not nothing"},
		{"header without value", hooked("    headers:\n      X-Token:\n"), "4: webhooks[0].headers.X-Token: is empty"},
		{"name of a header", hooked("    headers:\n      X Token: s3cret\n"), `4: webhooks[0].headers.X Token: "X Token" is no name of a header`},
		{"empty name of a header", hooked("    headers:\n      '': s3cret\n"), `4: webhooks[0].headers.: "" is no name of a header`},
		{"colon in the name of a header", hooked("    headers:\n      'X-Token:': s3cret\n"), `4: webhooks[0].headers.X-Token:: "X-Token:" is no name of a header`},
		{"header twice", hooked("    headers:\n      X-Token: a\n      x-token: s3cret\n"), "5: webhooks[0].headers.x-token: is given twice, first in line 4"},
		{"line break in a header", hooked("    headers:\n      X-A: b\n      X-Token: \"s3cret\\nX-B: c\"\n"), "5: webhooks[0].headers.X-Token: " + lineBreak},
		{"bell in a header", hooked("    headers: {X-Token: {value: \"s3cret\\a\"}}\n"), "3: webhooks[0].headers.X-Token: " + lineBreak},
		{"delete in a header", hooked("    headers: {X-Token: \"s3cret\\x7f\"}\n"), "3: webhooks[0].headers.X-Token: " + lineBreak},
		{"header of a variable", hooked("    headers:\n      X-Token: {env: PROXY_TEST_TEXT}\n"), "4: webhooks[0].headers.X-Token: " + lineBreak},
		{"header of a file", hooked("    headers:\n      X-Token: {file: proxy.yaml}\n"), "4: webhooks[0].headers.X-Token: " + lineBreak},
		{"header in a vault", hooked("    headers:\n      X-Token:\n        keyVault: https://v.vault.azure.net/secrets/hook\n"), "5: webhooks[0].headers.X-Token.keyVault: is not supported for webhooks: use env or file"},
		{"header of two", hooked("    headers: {X-Token: {value: s3cret, env: B}}\n"), "3: webhooks[0].headers.X-Token: wants exactly one of value, env and file"},
		{"header of HTTP", hooked("    headers: {content-length: 3}\n"), "3: webhooks[0].headers.content-length: belongs to HTTP and cannot be set"},
		{"header of the signature", hooked("    headers: {webhook-signature: s3cret}\n"), "3: webhooks[0].headers.webhook-signature: belongs to the signature, which secrets make"},
		{"secret", hooked("    secrets:\n      - " + signing + "\n      - s3cret\n"), "5: webhooks[0].secrets[1]: " + badSecret},
		{"short secret", hooked("    secrets: [{value: whsec_s3cret==}]\n"), "3: webhooks[0].secrets[0]: " + badSecret},
		{"secret of a variable", hooked("    secrets:\n      - env: PROXY_TEST_TEXT\n"), "4: webhooks[0].secrets[0]: " + badSecret},
		{"secret in a vault", hooked("    secrets: [{keyVault: https://v.vault.azure.net/secrets/hook}]\n"), "3: webhooks[0].secrets[0].keyVault: is not supported for webhooks"},
		{"no secret", hooked("    secrets: []\n"), "3: webhooks[0].secrets: is empty"},
		{"secrets in a word", hooked("    secrets: s3cret\n"), "3: webhooks[0].secrets: wants a list, not a single value"},
	} {
		t.Run(test.name, func(t *testing.T) { wantDiscreetMistake(t, test.file, test.want) })
	}
}

// TestWebhooksRead: requests have the values of the file, and secrets as they are at that
// moment.
func TestWebhooksRead(t *testing.T) {
	t.Chdir(t.TempDir())
	s := built(t, `webhooks:
  - url: https://scanner.example.com/hook
    actions: [delete, push, push]
  - url: {env: PROXY_TEST_URL}
    scope: team/api:*
    actions: [push]
    format: cloudevents-binary
    source: /registries/prod
    headers: {x-token: {file: token}, X-Number: 17, X-Value: {value: a b}}
    secrets: [{env: PROXY_TEST_SECRET}, `+signing+`]
  - {name: third, url: {file: url}, format: acr}
`)
	// The names are made of the hashes of the URL and of env:PROXY_TEST_URL.
	names := []string{"hook-0890e443bdae", "hook-308d36e48a58", "third"}
	scopes, actions := []webhook.Scope{"", "team/api:*", ""}, [][]string{{"delete", "push"}, {"push"}, {"delete", "push"}}
	for i, r := range s.receivers {
		if r.Name != names[i] || r.Scope != scopes[i] || !slices.Equal(r.Actions, actions[i]) {
			t.Errorf("receiver %d is %+v", i, r)
		}
	}
	if h, err := s.receivers[0].Sink.(*hook).sink(t.Context()); err != nil || h.URL != "https://scanner.example.com/hook" || h.Encoding != webhook.ACR {
		t.Errorf("%+v, %v", h, err)
	}
	second := s.receivers[1].Sink.(*hook)
	read := func(want string) *webhook.HTTP {
		t.Helper()
		h, err := second.sink(t.Context())
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("got %v, want %q", err, want)
		}
		return h
	}
	read("url: auth: environment variable PROXY_TEST_URL is not set")
	t.Setenv("PROXY_TEST_URL", secretURL)
	read("header X-Token: auth: secret file: open token: ")
	for _, token := range []string{"old", "new"} {
		if err := os.WriteFile("token", []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PROXY_TEST_SECRET", "")
		read("secrets: auth: environment variable PROXY_TEST_SECRET is not set")
		t.Setenv("PROXY_TEST_SECRET", "whsec_"+strings.Repeat("AAAA", 8))
		want := &webhook.HTTP{URL: secretURL, Encoding: webhook.CloudEventsBinary, Source: "/registries/prod",
			Header:  http.Header{"X-Token": {token}, "X-Number": {"17"}, "X-Value": {"a b"}},
			Secrets: []string{"whsec_" + strings.Repeat("AAAA", 8), signing}}
		if h := read(""); !reflect.DeepEqual(h, want) {
			t.Errorf("got %s %v %v", h.URL, h.Header, h.Secrets)
		}
	}
}

// TestWebhooksFixed is [TestFixed] for webhooks: any change needs a restart, unless it only
// spells a value in another way.
func TestWebhooksFixed(t *testing.T) {
	t.Chdir(t.TempDir())
	const base = "    headers: {X-A: {env: A}, X-B: b}\n    secrets: [{file: a}]\n    scope: a:*\n    format: cloudevents\n    source: /x\n    actions: [push]\n"
	const second = "  - {url: http://b.example, name: b}\n"
	for _, test := range []struct {
		name, before, after string
		same                bool
	}{
		{"nothing", hooked(base), hooked(base), true},
		{"order", hooked(base + second), "webhooks:\n" + second + strings.TrimPrefix(hooked(base), "webhooks:\n"), true},
		{"spelling", hooked("    format: acr\n    actions: [delete, push]\n    headers: {x-a: {value: a}, X-B: b}\n"), hooked("    headers: {X-B: {value: b}, X-A: a}\n"), true},
		{"url", hookAt("http://a.example"), hookAt("http://a.example/"), false},
		{"where the url is", hookAt("{env: A}"), hookAt("{file: A}"), false},
		{"url of the same name", hookAt("http://a.example\n    name: a"), hookAt("http://b.example\n    name: a"), false},
		{"name", hooked(base), hooked(base + "    name: a\n"), false},
		{"scope", hooked(base), hooked(strings.Replace(base, "a:*", "b:*", 1)), false},
		{"actions", hooked(base), hooked(strings.Replace(base, "push", "delete", 1)), false},
		{"format", hooked(base), hooked(strings.Replace(base, "cloudevents", "cloudevents-binary", 1)), false},
		{"source", hooked(base), hooked(strings.Replace(base, "/x", "/y", 1)), false},
		{"header", hooked(base), hooked(strings.Replace(base, "env: A", "env: B", 1)), false},
		{"name of a header", hooked(base), hooked(strings.Replace(base, "X-A", "X-C", 1)), false},
		{"secrets", hooked(base), hooked(strings.Replace(base, "{file: a}", "{file: a}, {file: b}", 1)), false},
		{"one more", hooked(base), hooked(base + second), false},
		{"one less", hooked(base + second), hooked(base), false},
		{"one for another", hooked(base), "webhooks:\n" + second, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := built(t, test.before).fixed(built(t, test.after))
			if test.same != (len(got) == 0) || !test.same && !slices.Equal(got, []string{"webhooks"}) {
				t.Errorf("keys %q, same %t", got, test.same)
			}
		})
	}
}

// TestManyWebhookMistakes: one run shows all mistakes, in the order of the file.
func TestManyWebhookMistakes(t *testing.T) {
	t.Chdir(t.TempDir())
	said := mistakesOf(t, `webhooks:
  - url: s3cret
    scope: "*"
    actions: [pull]
  - headers: {"": a, "a b": c}
    format: x
    secrets: [s3cret]
`)
	var lines []string
	for one := range strings.Lines(said) {
		lines = append(lines, strings.Split(one, ":")[1])
	}
	if want := []string{"2", "3", "4", "5", "5", "5", "6", "7"}; !slices.Equal(lines, want) || strings.Contains(said, "s3cret") {
		t.Errorf("lines %q, want %q:\n%s", lines, want, said)
	}
}
