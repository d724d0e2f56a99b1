package admin

import "time"

// CopyList is the answer of GET /api/v1/copies.
type CopyList struct {
	// Copies are the oldest first.
	Copies []Copy `json:"copies"`
	// Next is the parameter after of the next page. It is empty on the last one.
	Next string `json:"next,omitempty"`
	// Total counts all copies that the parameters select, and Counts those of each state.
	Total  int            `json:"total"`
	Counts map[string]int `json:"counts"`
	// Oldest is when the oldest of them was created.
	Oldest time.Time `json:"oldest,omitzero"`
}

// Copy is a copy job that is not finished.
type Copy struct {
	ID         string `json:"id"`
	Repository string `json:"repository"`
	Digest     string `json:"digest"`
	// Tags are the first twenty of the tags that move when the copy is complete, and MoreTags
	// is how many more there are.
	Tags     []string `json:"tags,omitempty"`
	MoreTags int      `json:"moreTags,omitempty"`
	Rule     string   `json:"rule,omitempty"`
	Source   string   `json:"source,omitempty"`
	State    string   `json:"state"`
	// Elsewhere is what was last heard of a submitted copy: another replica is to make it
	// ("coming"), has it parked ("parked"), or has made it, and its events wait there for their
	// receivers ("sending"). It is empty if nothing was heard.
	Elsewhere string `json:"elsewhere,omitempty"`
	// Done and Total are bytes of blobs.
	Done    int64     `json:"done"`
	Total   int64     `json:"total"`
	Created time.Time `json:"created"`
	// Attempts counts the copy's own failures, Next is when a paused copy is tried again, and
	// Error is why it failed last.
	Attempts int       `json:"attempts,omitempty"`
	Next     time.Time `json:"next,omitzero"`
	Error    string    `json:"error,omitempty"`
}

// HeldList is the answer of GET /api/v1/held.
type HeldList struct {
	// Held are in the order of repositories and tags.
	Held []HeldTag `json:"held"`
	// Next is the parameter after of the next page. It is empty on the last one.
	Next string `json:"next,omitempty"`
	// Total counts all tags that the parameters select.
	Total int `json:"total"`
}

// HeldTag is a tag that has a new digest upstream which is not admitted here.
type HeldTag struct {
	Repository string `json:"repository"`
	Tag        string `json:"tag"`
	Digest     string `json:"digest"`
	// Former is what the tag stands for meanwhile. If empty, pulls of the tag are refused.
	Former string `json:"former,omitempty"`
	Rule   string `json:"rule,omitempty"`
	Source string `json:"source,omitempty"`
	// Since is when the digest was not admitted for the first time, as far as this process
	// remembers. Until is when that is decided anew; it is zero if each pull decides anew.
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until,omitzero"`
	Reason string    `json:"reason"`
}

// Explanation is the answer of GET /api/v1/explain: what a pull would do now, and why.
type Explanation struct {
	Repository string `json:"repository"`
	Reference  string `json:"reference"`
	Rule       string `json:"rule,omitempty"`
	Source     string `json:"source,omitempty"`
	Stored     bool   `json:"stored"`
	Digest     string `json:"digest,omitempty"`
	Fresh      bool   `json:"fresh"`
	Copy       *Copy  `json:"copy,omitempty"`
	Trouble    string `json:"trouble,omitempty"`
	// Held is a digest that the tag has upstream and that is not admitted here, HeldError is
	// why, and HeldUntil is when that is decided anew; it is zero if each pull decides anew.
	Held      string    `json:"held,omitempty"`
	HeldError string    `json:"heldError,omitempty"`
	HeldUntil time.Time `json:"heldUntil,omitzero"`
	Text      string    `json:"text"`
}

// Target is the body of POST /api/v1/prefetch, retry and delete, of which each takes some
// fields.
type Target struct {
	Repository string `json:"repository,omitempty"`
	// Reference is a tag or a digest.
	Reference string `json:"reference,omitempty"`
	// All means everything: of the repository, or, for retry without a repository, at all.
	All bool `json:"all,omitempty"`
	// Platforms are those of an index that prefetch copies. If nil, it copies all.
	Platforms []string `json:"platforms,omitempty"`
}

// Retried is the answer of POST /api/v1/retry.
type Retried struct {
	Copies int `json:"copies"`
}

// Deleted is the answer of POST /api/v1/delete.
type Deleted struct {
	Repository string `json:"repository"`
	Reference  string `json:"reference,omitempty"`
}

// Evicted is the answer of POST /api/v1/evict.
type Evicted struct {
	Images int      `json:"images"`
	Bytes  int64    `json:"bytes"`
	Unmet  []string `json:"unmet,omitempty"`
}

// CheckOptions are the body of POST /api/v1/check.
type CheckOptions struct {
	// Repair removes what is damaged, so that it is fetched again when it is pulled.
	Repair bool `json:"repair,omitempty"`
	// Rate is how many bytes are read in a second. If zero, it is 32 MiB. If negative, there
	// is no limit.
	Rate int64 `json:"rate,omitempty"`
}

// Line is one line of a stream, as POST /api/v1/prefetch and check answer. The last line has
// the kind "done" or "error"; a stream without it was cut.
type Line struct {
	// Kind is one of the Line constants.
	Kind string `json:"kind"`
	// Done and Total are bytes, in lines of the kinds "progress" and "done" of a prefetch.
	Done  int64 `json:"done,omitempty"`
	Total int64 `json:"total,omitempty"`
	// Digest is what was prefetched, in the last line.
	Digest string `json:"digest,omitempty"`
	// Fault is damage that a check found. Faults counts them, in the last line.
	Fault  *Fault `json:"fault,omitempty"`
	Faults int    `json:"faults,omitempty"`
	// Error is why it did not work.
	Error *Error `json:"error,omitempty"`
}

// Kinds of lines.
const (
	LineProgress = "progress"
	LineFault    = "fault"
	LineDone     = "done"
	LineError    = "error"
)

// Fault is damage in the store.
type Fault struct {
	Repository string `json:"repository,omitempty"`
	Tag        string `json:"tag,omitempty"`
	Digest     string `json:"digest,omitempty"`
	Problem    string `json:"problem"`
	Repaired   bool   `json:"repaired,omitempty"`
}

// ReceiverList is the answer of GET /api/v1/receivers.
type ReceiverList struct {
	Receivers []Receiver `json:"receivers"`
	Next      string     `json:"next,omitempty"`
}

// Receiver is a receiver of events. Its URL may be secret and is not shown.
type Receiver struct {
	Name      string    `json:"name"`
	Scope     string    `json:"scope,omitempty"`
	Actions   []string  `json:"actions,omitempty"`
	Queued    int       `json:"queued"`
	Oldest    time.Time `json:"oldest,omitzero"`
	Failures  int       `json:"failures"`
	Paused    time.Time `json:"paused,omitzero"`
	Delivered int64     `json:"delivered"`
	GaveUp    int64     `json:"gaveUp"`
	Dropped   int64     `json:"dropped"`
}

// DeliveryList is the answer of GET /api/v1/deliveries, the newest first.
type DeliveryList struct {
	Deliveries []Delivery `json:"deliveries"`
}

// Delivery is a try to deliver an event, and the answer of POST /api/v1/ping. What was sent
// and answered is left out.
type Delivery struct {
	Receiver string    `json:"receiver"`
	Event    string    `json:"event"`
	Action   string    `json:"action"`
	Subject  string    `json:"subject,omitempty"`
	Attempt  int       `json:"attempt,omitempty"`
	Time     time.Time `json:"time"`
	Millis   int64     `json:"milliseconds"`
	Status   int       `json:"status,omitempty"`
	Error    string    `json:"error,omitempty"`
}

// Resent is the body and the answer of POST /api/v1/resend; POST /api/v1/ping takes the
// receiver alone.
type Resent struct {
	Receiver string `json:"receiver"`
	Event    string `json:"event,omitempty"`
}

// Stats is the answer of GET /api/v1/stats; see cache.Stats.
type Stats struct {
	Started          time.Time `json:"started"`
	Requests         int64     `json:"requests"`
	Hits             int64     `json:"hits"`
	Bytes            int64     `json:"bytes"`
	Checks           int64     `json:"checks"`
	ChecksShared     int64     `json:"checksShared"`
	Stale            int64     `json:"stale"`
	ManifestsFetched int64     `json:"manifestsFetched"`
	BytesFetched     int64     `json:"bytesFetched"`
	BlobConnections  int64     `json:"blobConnections"`
	Segments         int64     `json:"segments"`
	Followers        int64     `json:"followers"`
	Adopted          int64     `json:"adopted"`
	Copied           int64     `json:"copied"`
	JobsFailed       int64     `json:"jobsFailed"`
	JobsDropped      int64     `json:"jobsDropped"`
	Evicted          int64     `json:"evicted"`
	EvictedBytes     int64     `json:"evictedBytes"`
	StoreErrors      int64     `json:"storeErrors"`
	Downloads        int       `json:"downloads"`
	Readers          int       `json:"readers"`
	Jobs             int       `json:"jobs"`
}

// StoreSize is the answer of GET /api/v1/store.
type StoreSize struct {
	// Content is the bytes of all content, each piece counted once; Overhead is what the store
	// uses beside; Free is how many more can be stored, and negative if that is not known.
	Content  int64 `json:"content"`
	Overhead int64 `json:"overhead"`
	Free     int64 `json:"free"`
	// Repositories counts those that have images. It is what the last look has found.
	Repositories int `json:"repositories"`
	// Looked is when the images were last looked at. It is zero if that has not happened, and
	// Looking says that it happens now.
	Looked  time.Time `json:"looked,omitzero"`
	Looking bool      `json:"looking,omitempty"`
}

// RepositoryList is the answer of GET /api/v1/repositories.
type RepositoryList struct {
	Repositories []Repository `json:"repositories"`
	Next         string       `json:"next,omitempty"`
	// Looked and Looking are as in StoreSize.
	Looked  time.Time `json:"looked,omitzero"`
	Looking bool      `json:"looking,omitempty"`
}

// Repository is a repository that has something stored.
type Repository struct {
	Name string `json:"name"`
	// Rule covers the repository. It is empty if none does.
	Rule string `json:"rule,omitempty"`
	// Bytes are those of its images at the last look; nil if they are not known.
	Bytes *int64 `json:"bytes,omitempty"`
}

// TagList is the answer of GET /api/v1/tags.
type TagList struct {
	Tags []Tag  `json:"tags"`
	Next string `json:"next,omitempty"`
}

// Tag is a stored tag.
type Tag struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
	Source string `json:"source,omitempty"`
}

// ManifestList is the answer of GET /api/v1/manifests.
type ManifestList struct {
	Manifests []Manifest `json:"manifests"`
	Next      string     `json:"next,omitempty"`
}

// Manifest is a stored manifest. Size is that of the manifest alone.
type Manifest struct {
	Digest    string    `json:"digest"`
	MediaType string    `json:"mediaType,omitempty"`
	Size      int64     `json:"size"`
	Source    string    `json:"source,omitempty"`
	LastUse   time.Time `json:"lastUse,omitzero"`
}

// RuleList is the answer of GET /api/v1/rules.
type RuleList struct {
	Rules []Rule `json:"rules"`
	Next  string `json:"next,omitempty"`
}

// Rule is a rule without its secrets.
type Rule struct {
	Name           string          `json:"name"`
	Source         string          `json:"source"`
	Target         string          `json:"target"`
	Authentication *Authentication `json:"authentication,omitempty"`
	Freshness      string          `json:"freshness,omitempty"`
	MaxStale       string          `json:"maxStale,omitempty"`
	RequireAccess  bool            `json:"requireAccess,omitempty"`
	Platforms      []string        `json:"platforms,omitempty"`
	Referrers      bool            `json:"referrers,omitempty"`
	// Bytes are those of its images at the last look; nil if they are not known.
	Bytes *int64 `json:"bytes,omitempty"`
}

// Authentication says how a rule proves itself to its upstream.
type Authentication struct {
	// Kind is credentials, identity, federatedIdentity or other.
	Kind string `json:"kind"`
	// Name is that of the credential set, or the resource ID of the identity.
	Name string `json:"name,omitempty"`
	// Health is that of a credential set, in ACR's words; empty before its first use.
	Health        string    `json:"health,omitempty"`
	HealthMessage string    `json:"healthMessage,omitempty"`
	Since         time.Time `json:"since,omitzero"`
}
