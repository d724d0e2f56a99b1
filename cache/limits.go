package cache

import "time"

// Limits bounds a [Cache]. Each zero field means its default. What is bounded is
// shared fairly among rules: while there is room nobody waits, one rule leaves a
// quarter of the places to others, and when all are taken the next goes to the rule
// that holds fewest.
type Limits struct {
	// Downloads is how many blobs are downloaded at once in all (128), and
	// DownloadsPerHost from one upstream host (32). Copies that no client waits
	// for get at most half of each. A client that gets no place within Busy is
	// answered 503 with Retry-After.
	Downloads, DownloadsPerHost int
	// Requests is how many other questions are asked at once of upstreams in all
	// (256), and RequestsPerHost of one (64): tag checks, manifests, lists. A client
	// whose question is not sent within Busy is answered 503 with Retry-After; one
	// that leaves before takes no place.
	Requests, RequestsPerHost int
	// Lists is how many lists are answered at once (64), since each is held in memory
	// until its client has read it.
	Lists int
	// Jobs is how many manifests are copied at once (8). A copy that brings next to
	// nothing for a minute, while others wait, gives its place to them and goes on
	// later.
	Jobs int
	// Queue is how many copies may be known at once, running, waiting, queued or
	// parked (10,000). When there are more, the rule that has most makes room, and then
	// that of the new copy: of their copies the parked go first, then platforms that
	// were only looked at, then the newest one that waits. If that would be the new one
	// it is dropped, with a line in the log: the next pull asks for it again.
	Queue int
	// Attempts is how often a copy may fail by itself before it is parked (20).
	// What its upstream does not have is asked for three times at most. Trouble
	// with the upstream's host, the credential or a full store does not count, but
	// for that the copy is parked when it has lasted for a week, and a parked copy is
	// given up after another.
	Attempts int
	// Blob is how large a blob may be, in bytes (64 GiB). What is larger is an error of
	// its upstream. Negative: any size.
	Blob int64
	// ManifestMemory is how many bytes of manifests are kept in memory
	// (64 MiB), and how many those of unfinished copies may have besides.
	ManifestMemory int64
	// Kept is how many bytes of tag and referrer lists are kept for when the upstream
	// cannot be asked, and how many of manifests that clients have read and that are
	// not copied (32 MiB each). What was used least recently makes room. Negative:
	// none.
	Kept int64
	// Orphan is how many bytes a download may still fetch when neither a
	// client nor a copy waits for it (1 GiB). Negative: none.
	Orphan int64
	// Idle is how long an upstream may send nothing in the middle of a blob
	// before the connection counts as cut (30 s).
	Idle time.Duration
	// LeastRate is how many bytes per second an upstream must send in the middle of a
	// blob, over Idle (1 KiB/s; 64 KiB/s when nobody waits for it), or the connection
	// counts as cut. Negative: any.
	LeastRate int64
	// Send is how long a client may take for a piece of a response (2 min) before its
	// connection is ended: of 512 KiB, and of up to 4 MiB to a client that took the
	// last ones at once. It replaces the server's WriteTimeout
	// for what is answered here. Negative: as long as it likes.
	Send time.Duration
	// Answer is how long an upstream may take to answer before the client gets
	// 504 (20 s).
	Answer time.Duration
	// Stale is how long a pull by tag waits for the upstream when a complete
	// copy is stored (2 s).
	Stale time.Duration
	// Busy is how long a client waits for a place, for a download, a question or a
	// list, before it gets 503 (15 s).
	Busy time.Duration
	// Wait is how long the copy of an index waits for one of its platforms to
	// be pulled, and that of a platform for one of its layers (24 h).
	Wait time.Duration
}

// defaults fills the zero fields.
func (l Limits) defaults() Limits {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	dur := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&l.Downloads, 128)
	def(&l.DownloadsPerHost, 32)
	def(&l.Requests, 256)
	def(&l.RequestsPerHost, 64)
	def(&l.Lists, 64)
	def(&l.Jobs, 8)
	def(&l.Queue, 10000)
	def(&l.Attempts, 20)
	if l.ManifestMemory <= 0 {
		l.ManifestMemory = 64 << 20
	}
	if l.Orphan == 0 {
		l.Orphan = 1 << 30
	}
	if l.Kept == 0 {
		l.Kept = 32 << 20
	}
	if l.Blob == 0 {
		l.Blob = 64 << 30
	}
	if l.LeastRate == 0 {
		l.LeastRate = 1 << 10
	}
	if l.Send == 0 {
		l.Send = 2 * time.Minute
	}
	dur(&l.Idle, 30*time.Second)
	dur(&l.Answer, 20*time.Second)
	dur(&l.Stale, 2*time.Second)
	dur(&l.Busy, 15*time.Second)
	dur(&l.Wait, 24*time.Hour)
	return l
}
