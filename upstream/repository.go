package upstream

import (
	"time"

	"github.com/pullthrough/pullthrough/internal/lru"
)

// repository is the [Repository] that [Client.Open] returns.
type repository struct {
	source   Source
	requests *requester
	failures *failures
	observe  func(Call) // Client.Observe

	// What is remembered of all repositories of the Client.

	etags         *lru.Cache[etagKey, string]   // of manifests whose ETag is not their digest
	lackReferrers *lru.Cache[Source, time.Time] // until when a source counts as one without the referrers API
}

// Origin returns scheme://host of the Source's canonical host, which is
// https://docker.io for Docker Hub.
func (r *repository) Origin() string {
	return r.requests.policy.home.scheme + "://" + r.source.Host
}
