package cache

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/webhook"
)

// Cache is a pull-through cache. Every field is optional; the zero value knows no
// repository. Fields must not change after first use; Cache never writes them. A
// Cache is safe for concurrent use and must not be copied.
type Cache struct {
	// Rules says what a repository stands for. If nil, nothing is covered and
	// only what is stored is served. While it fails, what is stored is served for
	// the names that it has matched before, and the rest answers 503.
	Rules rule.Matcher
	// Store keeps what was copied. If nil, a bounded [store.Mem] is used, which
	// is gone with the process.
	Store store.Store
	// Upstream opens the repositories that rules name. If nil, an
	// [upstream.Client] with its defaults is used.
	Upstream upstream.Opener
	// Copier decides where copies run. If nil, they run here, Limits.Jobs at
	// once.
	Copier Copier
	// Events is told of every completed copy, and of manifests that
	// [Cache.Delete] deletes. Until it has taken an event over, the copy is not
	// finished: a [webhook.Outbox] is quick and forgets nothing. Any error means
	// that it was not taken over and is sent again later. If nil, nobody is told.
	Events webhook.Sink
	// Host is the public name of this cache, such as "cache.example.com" or
	// "cache.example.com:5000". Events tell it as the host of their request, from
	// which receivers build the names of images. If empty, the host that the client
	// asked for is told, which is the client's word: set it where receivers act on
	// events.
	Host string
	// Parked is told of a copy that failed too often and is not tried again by
	// itself, on the copy's goroutine. If nil, only the log is.
	Parked func(CopyState)
	// Authorize is asked once for every HTTP request that is answered here, with
	// the canonical repository, and for /v2/ also if Next answers it: there clients
	// learn how to prove themselves. What else goes to Next is for Next to check;
	// [Guard] does it with the same function. A [*Challenge] answers 401, any other
	// error 403; its text stays in the log. If nil, everyone may pull. The Go methods
	// do not ask.
	Authorize func(*http.Request, Access) error
	// Admit is asked before a digest that is new to a tag is served by that tag
	// or the tag moves. Any error means that the digest is not admitted now: it
	// keeps the former digest, or answers 403 with the error's text if there is
	// none; a [*Hold] also says until when. If nil, everything is admitted. It may
	// be asked again about the same candidate.
	//
	// Admit guards tags. It does not guard pulls by digest, nor the platforms of an
	// index and what refers to a manifest: a client that knows a digest gets it if the
	// upstream has it.
	Admit func(context.Context, Candidate) error
	// Next answers what no rule covers, /v2/ and /v2/_catalog included. It is not
	// guarded by Authorize but for /v2/: see [Guard]. If nil, those are answered
	// here, from what is stored.
	Next http.Handler
	// Freshness is how long the answer to "has this tag moved" is reused,
	// unless the rule says otherwise. If zero, every pull by tag asks.
	Freshness time.Duration
	// Limits bounds what is done at once and kept in memory.
	Limits Limits
	// SpoolDir is where downloads are kept for a Store that is no
	// [store.Spooler]. If empty, the system's folder for temporary files.
	SpoolDir string
	// ID names this cache in CDN-Loop headers (RFC 8586), so that a chain of
	// caches that bites its tail is found. If empty, a random one.
	ID string
	// MaxHops is how many caches a request may have passed before this one. If
	// zero, 3.
	MaxHops int
	// Observe is called for every HTTP request that was answered here, afterwards, on the
	// request's goroutine, and not for what went to Next. The request must not be
	// changed. If nil, requests that failed with 5xx are logged instead.
	Observe func(*http.Request, Outcome)
	// Logger gets what goes wrong. If nil, nothing is logged.
	Logger *slog.Logger

	once sync.Once
	e    *engine
}

// AccessKind is what a request asks for.
type AccessKind string

// The kinds of access.
const (
	AccessPing      AccessKind = "ping"    // /v2/ itself
	AccessCatalog   AccessKind = "catalog" // /v2/_catalog
	AccessManifest  AccessKind = "manifest"
	AccessBlob      AccessKind = "blob"
	AccessTags      AccessKind = "tags"
	AccessReferrers AccessKind = "referrers"
)

// The actions of the distribution spec's token scopes.
const (
	ActionPull   = "pull"
	ActionPush   = "push"
	ActionDelete = "delete"
	ActionAll    = "*"
)

// Access says what an HTTP request wants to do.
type Access struct {
	Kind AccessKind
	// Repository is the canonical local name; empty for ping and catalog. Decide by
	// it: names that stand for the same have one.
	Repository string
	// Requested is the name as the client wrote it, such as hub/alpine for
	// hub/library/alpine. Some clients (docker) ask for tokens for that name alone.
	Requested string
	// Actions are ActionPull for a read; ActionPull and ActionPush for a write, and
	// ActionDelete for a DELETE, which are refused afterwards here; ActionAll for the
	// catalog; none for the ping.
	Actions []string
}

// Challenge is an error of Authorize that asks the client to prove itself. It
// answers 401.
type Challenge struct {
	// Header is the value of WWW-Authenticate, such as
	// `Bearer realm="https://auth.example.com/token",service="cache"`.
	Header string
}

// Error tells that authentication is required.
func (c *Challenge) Error() string { return "cache: authentication required" }

// Candidate is a manifest that a tag is about to stand for.
type Candidate struct {
	Repository string // canonical local name
	Tag        string
	ocispec.Descriptor
	// Manifest is the content. It must not be changed; nil if only the digest
	// is known yet (a pull by HEAD).
	Manifest []byte
	// Former is what the tag stands for now; empty: nothing.
	Former digest.Digest
	Source upstream.Source
}

// Hold is an error of Admit: not before Until. The cache does not ask again
// about the same digest before then.
type Hold struct {
	Until  time.Time
	Reason string // may be shown to clients
}

// Error tells the reason and the time.
func (h *Hold) Error() string {
	return "held until " + h.Until.UTC().Format(time.RFC3339) + ": " + h.Reason
}
