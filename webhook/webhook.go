// Package webhook tells others that something was copied.
//
// An [Event] has the shape of Azure Container Registry's webhook payload. The
// cache sends events to a [Sink] when a copy is complete, never when it is
// merely pulled. A repeated delivery has the same event ID.
package webhook

import (
	"context"
	"strings"
	"time"
)

// Actions of events.
const (
	ActionPush   = "push"
	ActionDelete = "delete"
	ActionPing   = "ping"
)

// Event is what happened, as ACR writes it in JSON.
type Event struct {
	// ID is the same on every delivery of one event.
	ID string `json:"id"`
	// Timestamp is when it happened.
	Timestamp time.Time `json:"timestamp"`
	// Action is one of the Action constants.
	Action string `json:"action"`
	// Target is the manifest.
	Target Target `json:"target"`
	// Request is what caused it; nil: nothing that is told.
	Request *Request `json:"request,omitempty"`
}

// Target is a manifest in a local repository.
type Target struct {
	MediaType string `json:"mediaType,omitempty"`
	// Size and Length are the manifest's size in bytes; ACR sends both.
	Size       int64  `json:"size,omitempty"`
	Digest     string `json:"digest,omitempty"`
	Length     int64  `json:"length,omitempty"`
	Repository string `json:"repository,omitempty"`
	// Tag is empty when the manifest itself arrived, set when a tag moved.
	Tag string `json:"tag,omitempty"`
}

// Request is the request that caused an event.
type Request struct {
	ID        string `json:"id"`
	Host      string `json:"host,omitempty"`
	Method    string `json:"method,omitempty"`
	UserAgent string `json:"useragent,omitempty"`
}

// Sink takes events. Implementations must be safe for concurrent use.
type Sink interface {
	// Send returns when the event is taken over, durably if that is what the
	// sink is for. An error makes the cache try again later.
	Send(ctx context.Context, ev Event) error
}

// SinkFunc is a function as a [Sink].
type SinkFunc func(ctx context.Context, ev Event) error

// Send calls f.
func (f SinkFunc) Send(ctx context.Context, ev Event) error { return f(ctx, ev) }

// Scope selects events as ACR's webhooks do: "repo:tag" one tag, "repo:*" all
// of a repository, "repo" means "repo:latest", empty everything.
type Scope string

// Matches reports whether the scope selects ev.
func (s Scope) Matches(ev Event) bool {
	if s == "" {
		return true
	}
	repo, tag, ok := strings.Cut(string(s), ":")
	if !ok {
		tag = "latest"
	}
	return repo == ev.Target.Repository && (tag == "*" || tag == ev.Target.Tag)
}
