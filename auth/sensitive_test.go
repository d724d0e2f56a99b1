package auth

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const text = "s3cr3t-T0ken"

// leaks reports whether out holds the text in any notation of fmt.
func leaks(out string) bool {
	for _, form := range []string{text, fmt.Sprintf("%x", text), fmt.Sprintf("%X", text), fmt.Sprintf("% x", text), fmt.Sprint([]byte(text)), fmt.Sprintf("%x", []rune(text))} {
		if strings.Contains(out, form) {
			return true
		}
	}
	return false
}

type shown struct{ Token Sensitive }

type hidden struct{ token Sensitive }

type deep struct {
	in   map[string]hidden
	list []Sensitive
	ptr  *hidden
	any  any
}

func TestSensitiveDoesNotPrint(t *testing.T) {
	s := NewSensitive(text)
	h := hidden{s}
	values := map[string]any{
		"value": s, "pointer": &s, "exported": shown{s}, "unexported": h, "pointer to unexported": &h,
		"slice": []Sensitive{s}, "map": map[string]Sensitive{"k": s}, "map key": map[Sensitive]int{s: 1},
		"deep":                  deep{in: map[string]hidden{"a": h}, list: []Sensitive{s}, ptr: &h, any: s},
		"credential":            Credential{Username: "u", Password: s, RefreshToken: s, AccessToken: s},
		"pointer to credential": &Credential{Password: s},
		"set":                   &CredentialSet{Name: "n", Username: Value{s}, Password: Value{s}},
		"secret":                Value{s},
		"in error":              fmt.Errorf("token %v: %w", s, errors.New("refused")),
	}
	if !leaks(fmt.Sprint(struct{ s string }{text})) {
		t.Fatal("this test cannot fail")
	}
	for name, v := range values {
		for _, verb := range "vsqxXdtTboOcUeEfFgGp" {
			for _, flags := range []string{"", "+", "#", "-20", "020", " ", "+#", ".3"} {
				if out := fmt.Sprintf("%"+flags+string(verb), v); leaks(out) {
					t.Errorf("%s under %%%s%c: %s", name, flags, verb, out)
				}
			}
		}
		if out := fmt.Sprint(v) + fmt.Sprintln(v, v); leaks(out) {
			t.Errorf("%s: %s", name, out)
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if out := fmt.Sprintf(verb, s); out != "REDACTED" {
			t.Errorf("%s prints %q", verb, out)
		}
		if out := fmt.Sprintf(verb, Sensitive{}); out != "" {
			t.Errorf("%s prints the empty one as %q", verb, out)
		}
	}
}

func TestSensitiveIsNotLogged(t *testing.T) {
	s := NewSensitive(text)
	for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"json": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		var out bytes.Buffer
		log := slog.New(handler(&out)).With("with", s)
		log.Info("a", "token", s, "pointer", &s, "struct", shown{s}, "hidden", hidden{s}, "credential", Credential{Password: s},
			slog.Group("group", "token", s), "list", []Sensitive{s}, "set", &CredentialSet{Password: Value{s}})
		if leaks(out.String()) {
			t.Errorf("%s: %s", name, out.String())
		}
		if !strings.Contains(out.String(), "REDACTED") {
			t.Errorf("%s does not say that something was there: %s", name, out.String())
		}
	}
}

func TestSensitiveIsNotEncoded(t *testing.T) {
	s := NewSensitive(text)
	for name, v := range map[string]any{
		"value": s, "exported": shown{s}, "unexported": hidden{s}, "map": map[string]Sensitive{"k": s}, "key": map[Sensitive]int{s: 1}, "credential": Credential{Password: s},
	} {
		out, err := json.Marshal(v)
		if err != nil || leaks(string(out)) {
			t.Errorf("JSON, %s: %s, %v", name, out, err)
		}
	}
	if out, err := json.Marshal(shown{s}); err != nil || string(out) != `{"Token":"REDACTED"}` {
		t.Errorf("%s, %v", out, err)
	}
	if out, err := xml.Marshal(shown{s}); err != nil || leaks(string(out)) {
		t.Errorf("XML: %s, %v", out, err)
	}
}

func TestSensitive(t *testing.T) {
	s, same, other := NewSensitive(text), NewSensitive(text), NewSensitive("x")
	if s.Reveal() != text || s.Empty() || s.String() != "REDACTED" {
		t.Errorf("%q", s.Reveal())
	}
	if !s.Equal(same) || s.Equal(other) || s.Equal(Sensitive{}) || !(Sensitive{}).Equal(NewSensitive("")) {
		t.Error("Equal compares something else than the texts")
	}
	if e := NewSensitive(""); !e.Empty() || e.Reveal() != "" || e != (Sensitive{}) {
		t.Error("an empty text is not the zero value")
	}
}
