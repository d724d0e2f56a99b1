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
	// Rules says which upstream a repository stands for. If nil, nothing is covered and
	// only what is stored is served. While it fails, what is stored is served for
	// the names that it has matched before, and the rest answers 503.
	Rules rule.Matcher
	// Store keeps the stored images. If nil, a bounded [store.Mem] is used, whose content
	// ends with the process.
	Store store.Store
	// Upstream opens the repositories that rules name. If nil, an
	// [upstream.Client] with its defaults is used.
	Upstream upstream.Opener
	// Copier decides where copy jobs run. If nil, they run here, Limits.Jobs at once.
	Copier Copier
	// Events receives an event for every image that becomes stored, and for every manifest
	// that [Cache.Delete] deletes. A copy job is not finished before Events has taken its
	// events over: a [webhook.Outbox] is quick and forgets nothing. Any error means that
	// they were not taken over, and they are sent again later. If nil, there are no events.
	Events webhook.Sink
	// Host is the public name of this cache, such as "cache.example.com" or
	// "cache.example.com:5000". Events name it as the host of their request, from
	// which receivers build the names of images. If empty, they name the host that the
	// client asked for, which is the client's word: set Host where receivers act on events.
	Host string
	// Eviction says what is given up when space is short. If zero, nothing is: the store
	// grows until it is full.
	Eviction Eviction
	// Parked is called when a copy failed too often and is not tried again by itself, on
	// the goroutine of the job. If nil, only the log says so.
	Parked func(CopyState)
	// Authorize is called once for every HTTP request that is answered here, with
	// the canonical repository, and for /v2/ also if Next answers it: there clients
	// learn how to prove themselves. Next itself checks what else goes to Next;
	// [Guard] does it with the same function. A [*Challenge] answers 401; an [*Error]
	// answers with its own status, code and message, and with the header of a
	// Challenge that it wraps; any other error answers 403, and its text stays in the
	// log. If nil, every client may pull. The Go methods do not call it.
	Authorize func(*http.Request, Access) error
	// Admit is called before a digest that is new to a tag is served by that tag
	// or the tag moves. Any error means that the digest is not admitted now: the tag
	// keeps the former digest, or the client gets 403 with the error's text if there is
	// none; a [*Hold] also says until when. If nil, everything is admitted. Admit may
	// be called again for the same candidate.
	//
	// Admit guards tags. It does not guard pulls by digest, nor the platforms of an
	// index and what refers to a manifest: a client that knows a digest gets it if the
	// upstream has it.
	Admit func(context.Context, Candidate) error
	// Held is called when Admit does not admit a digest that is new to a tag, with what Admit
	// returned: once for each digest of a tag and each reason, unless that was long ago, on
	// the goroutine that asked Admit. It is for people who watch; [Cache.HeldTags] lists what
	// is held. If nil, only the log says so.
	Held func(Candidate, error)
	// Deleted is called for each deletion by [Cache.Delete] and [Cache.DeleteRepository], on
	// the caller's goroutine, twice: before anything is deleted from the Store, so that other
	// caches give up copies of it in time, and after that, so that they forget what they read
	// in between. [Cache.Forget] is for those others. If nil, nobody is told.
	Deleted func(context.Context, Deletion)
	// Next answers what no rule covers, /v2/ and /v2/_catalog included. It is not
	// guarded by Authorize but for /v2/: see [Guard]. If nil, those are answered
	// here, from what is stored.
	Next http.Handler
	// Freshness is how long a tag check is good for further pulls, unless the rule says
	// otherwise. If zero, every pull by tag checks the tag.
	Freshness time.Duration
	// KeepBudget is how many of the pulls that an upstream host allows in a time are kept
	// for what is not stored, by canonical host, such as "docker.io": 20. When the host says
	// that no more are left to a credential, or to the address of this cache where a rule has
	// none, tags are answered by what is stored or being copied, and copies of what no client
	// has pulled are put off, until the host says otherwise or that time has passed. Rules
	// with other credentials go on. Hosts say it as Docker Hub does; see
	// [upstream.RateLimit]. If nil, nothing is kept.
	KeepBudget map[string]int
	// Limits bounds what is done at once and kept in memory. If zero, it has its defaults.
	Limits Limits
	// SpoolDir is the folder of downloads for a Store that is no [store.Spooler]. If empty,
	// it is the system's folder for temporary files.
	SpoolDir string
	// ID names this cache in CDN-Loop headers (RFC 8586), so that a chain of caches that
	// leads back to this one is found. If empty, it is a random one.
	ID string
	// MaxHops is how many caches a request may pass, this one included. One that has passed
	// that many before is refused with 508. If zero, 3.
	MaxHops int
	// Observe is called for every HTTP request that was answered here, afterwards, on the
	// request's goroutine, and not for what went to Next. The request must not be
	// changed. If nil, requests that failed with 5xx are logged instead.
	Observe func(*http.Request, Outcome)
	// Logger gets what goes wrong, and at debug level the story of each pull. If nil,
	// nothing is logged.
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
	// Repository is the canonical local name, by which Authorize should decide: two names
	// of one repository have the same. It is empty for the ping and the catalog.
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
	// Manifest is the content, which must not be changed. It is nil if only the digest is
	// known yet (a pull by HEAD).
	Manifest []byte
	// Former is what the tag stands for now. It is empty if the tag stands for nothing.
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
