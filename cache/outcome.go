package cache

import (
	"strconv"
	"strings"
	"time"
)

// Outcome is how one HTTP request was answered.
type Outcome struct {
	Method    string
	Access    Access
	Reference string // tag or digest; empty if the request has none
	Rule      string // name of the rule; empty if none covers the repository
	Status    int    // zero if the connection was ended before a header
	Bytes     int64  // of the body
	Duration  time.Duration
	FirstByte time.Duration // until the header
	// Result says where the answer came from.
	Result Result
	// UpstreamStatus is the HTTP status of the upstream's answer; zero if it was not
	// asked, or did not answer.
	UpstreamStatus int
	// Detail says more in one word, such as "copying", "held", "peer" or "timeout"; see
	// Cache-Status in the package documentation. It is empty if there is no more to say.
	Detail string
	// CacheState is all that as the Cache-Status value (RFC 9211), without the name of
	// the cache.
	CacheState string
	// Err is what went wrong, for the log and not for clients; nil if nothing did.
	Err error
}

// Result says where an answer came from.
type Result string

// The results.
const (
	ResultNone    Result = ""        // no upstream was concerned, such as for /v2/ and for what was refused
	ResultHit     Result = "hit"     // what is here, without a request to the upstream
	ResultChecked Result = "checked" // what is stored, after the upstream was asked whether the tag has moved
	ResultMiss    Result = "miss"    // the upstream
	ResultStale   Result = "stale"   // what is stored, since the upstream could not be asked or has refused
)

// result reads what a Cache-Status value says.
func result(state string) (r Result, status int, detail string) {
	for word := range strings.SplitSeq(state, "; ") {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "hit":
			r = ResultHit
		case "miss":
			r = ResultMiss
		case "fwd":
			r = map[string]Result{"miss": ResultMiss, "request": ResultChecked, "stale": ResultStale}[value]
		case "fwd-status":
			status, _ = strconv.Atoi(value)
		case "detail":
			detail = value
		case "collapsed":
			detail = key
		}
	}
	return r, status, detail
}
