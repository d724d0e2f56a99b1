package cache

import "sync/atomic"

// Stats counts what a Cache did since it was made, and what it does now.
type Stats struct {
	Requests         int64 // HTTP requests answered
	Hits             int64 // answered without any upstream request
	Bytes            int64 // of bodies sent
	Checks           int64 // questions whether a tag has moved (HEAD)
	ChecksShared     int64 // pulls by tag that used the tag check of another one
	Stale            int64 // tags served without a fresh check
	ManifestsFetched int64 // manifests fetched from upstreams
	BytesFetched     int64 // of manifests and blobs that upstreams sent, and not what other replicas sent
	BlobConnections  int64 // requests for blobs, or parts of blobs, that upstreams were sent
	Segments         int64 // parts of blobs that were asked for over further connections
	Followers        int64 // requests for a blob that joined a download
	Adopted          int64 // blobs linked after a HEAD, without a download
	Copied           int64 // manifests that became complete
	JobsFailed       int64 // copies that failed once and are tried again
	JobsDropped      int64 // copies that found the queue full
	Evicted          int64 // images that were given up
	EvictedBytes     int64 // of content that nothing names any more by that
	StoreErrors      int64 // trouble with the store that clients did not notice
	Downloads        int   // blobs being downloaded now
	Readers          int   // requests and copies that use those downloads now
	Jobs             int   // copies known now
}

// counters is what a Cache counts itself; origins, fetcher and ledger count the rest.
type counters struct {
	requests, hits, bytes, checksShared, stale, adopted, copied, storeErrors atomic.Int64
}

// Stats returns the counters.
func (c *Cache) Stats() Stats {
	e := c.engine()
	s, asked := &e.stats, e.origins.Counts()
	failed, dropped := e.ledger.Counts()
	return Stats{
		Requests: s.requests.Load(), Hits: s.hits.Load(), Bytes: s.bytes.Load(), Checks: asked.Checks,
		ChecksShared: s.checksShared.Load(), Stale: s.stale.Load(), ManifestsFetched: asked.Manifests, BytesFetched: asked.Bytes, BlobConnections: asked.Connections,
		Segments: e.fetcher.flights.Pieces(), Followers: e.fetcher.flights.Joined(),
		Adopted: s.adopted.Load(), Copied: s.copied.Load(), JobsFailed: failed, JobsDropped: dropped,
		Evicted: e.evictor.images.Load(), EvictedBytes: e.evictor.bytes.Load(),
		StoreErrors: s.storeErrors.Load(), Downloads: e.fetcher.flights.Len(), Readers: e.fetcher.flights.Readers(), Jobs: e.ledger.Len(),
	}
}
