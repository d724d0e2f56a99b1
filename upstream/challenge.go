package upstream

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/pullthrough/pullthrough/internal/ociname"
)

// maxParam is the longest service or scope that is passed on.
const maxParam = 2 << 10

// challenge is one of the ways to authenticate that a 401 offers.
type challenge struct {
	scheme string // lower case
	params map[string]string
}

// challenged checks the realm of a 401 and puts a challenge of our own
// spelling in place of the upstream's, so that oras-go cannot read another
// realm out of it than the one that was checked.
func (t *trip) challenged(resp *http.Response) (*http.Response, error) {
	offers := parseChallenges(resp.Header.Values("Www-Authenticate"))
	resp.Header.Del("Www-Authenticate")
	if t.left && !strings.HasPrefix(t.hop.URL.Path, "/v2/") {
		return resp, nil // no registry but a storage, which is shown its link and nothing else
	}
	for _, c := range offers {
		if c.scheme != "bearer" || c.params["realm"] == "" {
			continue
		}
		realm, err := t.realm(c.params["realm"])
		if service := c.params["service"]; err == nil && t.own() && ociname.FoldHost(service) != t.host {
			err = &guardError{fmt.Sprintf("the challenge names another service than %q", t.host), "its challenge names another service"}
		}
		if err != nil && t.left { // the refusal of somebody who is owed nothing
			return resp, nil
		}
		if err != nil {
			_ = resp.Body.Close()
			return nil, err
		}
		text := `Bearer realm="` + strings.ReplaceAll(realm.String(), `"`, "%22") + `"`
		for _, key := range []string{"service", "scope"} {
			if value := c.params[key]; value != "" && quotable(value) {
				text += "," + key + `="` + value + `"`
			}
		}
		resp.Header.Set("Www-Authenticate", text)
		return resp, nil
	}
	for _, c := range offers {
		if c.scheme == "basic" && t.basic() {
			resp.Header.Set("Www-Authenticate", "Basic")
		}
	}
	return resp, nil
}

// quotable reports whether a value can stand between quotes as it is.
func quotable(value string) bool {
	if len(value) > maxParam {
		return false
	}
	for i := range len(value) {
		if c := value[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// parseChallenges reads Www-Authenticate (RFC 9110 section 11.6.1): several
// challenges, in one header or in several. It reads an unquoted value up to a
// comma or space, since some registries do not quote URLs. What follows
// something unreadable is not read.
func parseChallenges(headers []string) []challenge {
	var list []challenge
	for _, h := range headers {
		list = append(list, parseHeader(h)...)
	}
	return list
}

func parseHeader(s string) (list []challenge) {
	for {
		s = strings.TrimLeft(s, " \t,")
		name, rest := cutToken(s)
		if name == "" {
			return list
		}
		after := strings.TrimLeft(rest, " \t")
		if !strings.HasPrefix(after, "=") {
			list = append(list, challenge{scheme: strings.ToLower(name), params: map[string]string{}})
			s = skipToken68(rest)
			continue
		}
		value, rest, ok := cutValue(strings.TrimLeft(after[1:], " \t"))
		if !ok || len(list) == 0 {
			return list
		}
		params := list[len(list)-1].params
		if key := strings.ToLower(name); params[key] == "" {
			params[key] = value
		}
		s = rest
	}
}

// skipToken68 skips what some schemes have in place of parameters.
func skipToken68(s string) string {
	trimmed := strings.TrimLeft(s, " \t")
	if trimmed == s {
		return s
	}
	end := strings.IndexFunc(trimmed, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._~+/", r))
	})
	if end < 0 {
		if strings.ContainsAny(trimmed, "+/") || trimmed == "" {
			return ""
		}
		return s
	}
	rest := strings.TrimLeft(trimmed[end:], "=")
	if next := strings.TrimLeft(rest, " \t"); next == "" || next[0] == ',' {
		return rest
	}
	return s
}

// cutValue reads a quoted string or an unquoted value.
func cutValue(s string) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		end := strings.IndexAny(s, ", \t")
		if end < 0 {
			end = len(s)
		}
		return s[:end], s[end:], true
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			if i++; i == len(s) {
				return "", "", false
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}

// cutToken reads a token (RFC 9110 section 5.6.2).
func cutToken(s string) (token, rest string) {
	end := strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r))
	})
	if end < 0 {
		return s, ""
	}
	return s[:end], s[end:]
}
