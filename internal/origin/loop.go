package origin

import (
	"errors"
	"net/http"
	"strings"
)

var (
	// ErrLoop reports a request that has passed this cache before.
	ErrLoop = errors.New("a loop of caches: the request has passed this one before")
	// ErrTooManyHops reports a request that passes more than Config.MaxHops caches, this one
	// included.
	ErrTooManyHops = errors.New("the request has passed too many caches")
)

// loopHeader carries the caches that a request has passed (RFC 8586), in the
// spelling of http.Header's keys.
const loopHeader = "Cdn-Loop"

// maxLoopID is the length of the longest name of a cache that is passed on.
const maxLoopID = 128

// Passed returns what a request that has passed other caches sends upstream, for
// [Repo.Via]; it is empty for a request that has passed none. [ErrLoop] and
// [ErrTooManyHops] report requests that must not go on. What is not the name of a cache
// is not passed on. A request that carries the names of others is shared with no other
// request, and its failure says nothing about the upstream: a client could have made
// the names up.
func (o *Origins) Passed(h http.Header) (loop string, err error) {
	var passed []string
	for _, v := range h[loopHeader] {
		for id := range strings.SplitSeq(v, ",") {
			id, _, _ = strings.Cut(strings.TrimSpace(id), ";")
			switch id = strings.TrimSpace(id); {
			case id == "":
				continue
			case id == o.cfg.ID:
				return "", ErrLoop
			case len(passed) >= o.cfg.MaxHops-1:
				return "", ErrTooManyHops
			}
			if isCDNID(id) {
				passed = append(passed, id)
			}
		}
	}
	if len(passed) == 0 {
		return "", nil
	}
	return strings.Join(append(passed, o.cfg.ID), ", "), nil
}

// isCDNID reports whether id can be the name of a cache: a pseudonym or a host with a
// port (RFC 8586 section 2), of bounded length.
func isCDNID(id string) bool {
	if len(id) > maxLoopID {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && strings.IndexByte("!#$%&'*+-.^_`|~:[]", c) < 0 {
			return false
		}
	}
	return true
}
