package webhook

import (
	"crypto/rand"
	"fmt"
	"strings"
	"time"
)

// Actions of events.
const (
	ActionPush   = "push"
	ActionDelete = "delete"
	ActionPing   = "ping"
	// ActionQuarantine says that a manifest is held: its tag does not move yet. ACR has the
	// action for registries that quarantine what is pushed. No cache sends it by itself: an
	// embedder can do so in cache.Cache.Held.
	ActionQuarantine = "quarantine"
)

// Event is a copy, a deletion or a hold that happened, in the JSON of ACR's webhooks.
type Event struct {
	// ID is the same in every delivery of one event.
	ID string `json:"id"`
	// Timestamp is when the event happened.
	Timestamp time.Time `json:"timestamp"`
	// Action is one of the Action constants.
	Action string `json:"action"`
	// Target is the manifest that was copied, deleted or held. It is zero for a ping.
	Target Target `json:"target,omitzero"`
	// Request is the request that caused the event. It may be nil.
	Request *Request `json:"request,omitempty"`
}

// Target is a manifest in a local repository.
type Target struct {
	MediaType string `json:"mediaType,omitempty"`
	// Size and Length are both the size of the manifest in bytes, as ACR sends it.
	Size       int64  `json:"size,omitempty"`
	Digest     string `json:"digest,omitempty"`
	Length     int64  `json:"length,omitempty"`
	Repository string `json:"repository,omitempty"`
	// Tag is the tag that moved to the manifest, or is held from doing so. It is empty in the event of the
	// manifest itself.
	Tag string `json:"tag,omitempty"`
}

// Request is the request that caused an event.
type Request struct {
	ID        string `json:"id"`
	Host      string `json:"host,omitempty"`
	Method    string `json:"method,omitempty"`
	UserAgent string `json:"useragent,omitempty"`
}

// NewID returns an ID for an event: a random UUID, like those of ACR.
func NewID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// Ping returns an event that only tests whether a receiver can be reached.
func Ping() Event {
	return Event{ID: NewID(), Timestamp: time.Now().UTC(), Action: ActionPing}
}

// Subject names the target of an event: repository:tag, or repository@digest if there
// is no tag. It is empty for a ping.
func (e Event) Subject() string {
	switch {
	case e.Target.Tag != "":
		return e.Target.Repository + ":" + e.Target.Tag
	case e.Target.Digest != "":
		return e.Target.Repository + "@" + e.Target.Digest
	}
	return e.Target.Repository
}

// Scope selects events as ACR's webhooks do: "repo:tag" selects one tag, "repo:*"
// every event of a repository, "repo" the same as "repo:latest", and the empty scope
// everything. A ping matches every scope.
type Scope string

// Matches reports whether the scope selects ev.
func (s Scope) Matches(ev Event) bool {
	if s == "" || ev.Action == ActionPing {
		return true
	}
	repo, tag, ok := strings.Cut(string(s), ":")
	if !ok {
		tag = "latest"
	}
	return repo == ev.Target.Repository && (tag == "*" || tag == ev.Target.Tag)
}

// Check returns an error that says what is wrong with a scope, or nil. A wildcard
// can stand only for all tags of one repository.
func (s Scope) Check() error {
	repo, tag, tagged := strings.Cut(string(s), ":")
	switch {
	case s == "":
		return nil
	case repo == "" || strings.ContainsAny(repo, "*@ ") || strings.HasPrefix(repo, "/") || strings.HasSuffix(repo, "/") || strings.ToLower(repo) != repo:
		return fmt.Errorf("webhook: scope %q names no repository: REPOSITORY, REPOSITORY:TAG or REPOSITORY:* is expected", string(s))
	case tagged && (tag == "" || tag != "*" && strings.ContainsAny(tag, "*:/@ ")):
		return fmt.Errorf("webhook: scope %q names no tag after the colon: a tag or * is expected", string(s))
	}
	return nil
}
