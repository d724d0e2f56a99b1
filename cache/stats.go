package cache

import "sync/atomic"

// Stats counts what a Cache did since it was made, and what it does now.
type Stats struct {
	Requests         int64 // HTTP requests answered
	Hits             int64 // answered without any upstream request
	Bytes            int64 // of bodies sent
	Checks           int64 // questions whether a tag has moved (HEAD)
	Stale            int64 // tags served without a fresh check
	ManifestsFetched int64 // manifests fetched from upstreams
	BlobConnections  int64 // connections to upstreams for blobs
	Adopted          int64 // blobs linked after a HEAD, without a download
	Copied           int64 // manifests that became complete
	JobsFailed       int64 // copies that failed once and are tried again
	JobsDropped      int64 // copies that found the queue full
	StoreErrors      int64 // trouble with the store that clients did not notice
	Downloads        int   // blobs being downloaded now
	Jobs             int   // copies known now
}

// counters is Stats at work.
type counters struct {
	requests, hits, bytes, checks, stale, manifestsFetched, blobConnections,
	adopted, copied, jobsFailed, jobsDropped, storeErrors atomic.Int64
}

// Stats returns the counters.
func (c *Cache) Stats() Stats {
	e := c.engine()
	s := &e.stats
	e.jobs.lock()
	jobs := len(e.jobs.entries)
	e.jobs.unlock()
	return Stats{
		Requests: s.requests.Load(), Hits: s.hits.Load(), Bytes: s.bytes.Load(), Checks: s.checks.Load(),
		Stale: s.stale.Load(), ManifestsFetched: s.manifestsFetched.Load(), BlobConnections: s.blobConnections.Load(),
		Adopted: s.adopted.Load(), Copied: s.copied.Load(), JobsFailed: s.jobsFailed.Load(),
		JobsDropped: s.jobsDropped.Load(), StoreErrors: s.storeErrors.Load(),
		Downloads: e.flights.Len(), Jobs: jobs,
	}
}
