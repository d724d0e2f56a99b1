package upstream

import "strings"

// maxParam is the length in bytes of the longest service or scope that is passed on.
const maxParam = 2 << 10

// challenge is one of the ways to authenticate that a 401 offers.
type challenge struct {
	scheme string // lower case
	params map[string]string
}

// quotable reports whether a value can be written between quotes without escapes.
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

// parseChallenges parses the values of Www-Authenticate (RFC 9110 section 11.6.1), each
// of which may hold several challenges. An unquoted value ends at a comma or a space,
// since some registries do not quote URLs. The rest of a header that cannot be parsed is
// ignored.
func parseChallenges(headers []string) []challenge {
	var list []challenge
	for _, h := range headers {
		list = append(list, parseHeader(h)...)
	}
	return list
}

// parseHeader parses one value of Www-Authenticate.
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

// skipToken68 skips the token68 that some schemes, such as Negotiate, have in place of
// parameters (RFC 9110 section 11.2). If s does not begin with one, it is returned as
// it is.
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

// cutValue cuts a quoted string or an unquoted value off the beginning of s. If a quoted
// string is not closed, ok is false.
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

// cutToken cuts a token (RFC 9110 section 5.6.2) off the beginning of s. The token may
// be empty.
func cutToken(s string) (token, rest string) {
	end := strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r))
	})
	if end < 0 {
		return s, ""
	}
	return s[:end], s[end:]
}
