package cache

import (
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

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

// recorder notes what is answered. It hands io.ReaderFrom on, so that the
// kernel can send files.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
	begun  time.Time
	first  time.Duration
}

// WriteHeader notes the status.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 && status >= 200 {
		r.status, r.first = status, time.Since(r.begun)
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write counts bytes.
func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.WriteHeader(http.StatusOK)
	}
	n, err := r.ResponseWriter.Write(p)
	r.bytes += int64(n)
	return n, err
}

// ReadFrom counts bytes and lets the server send a file by itself.
func (r *recorder) ReadFrom(src io.Reader) (int64, error) {
	if r.status == 0 {
		r.WriteHeader(http.StatusOK)
	}
	n, err := io.Copy(r.ResponseWriter, src)
	r.bytes += n
	return n, err
}

// Unwrap serves http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
