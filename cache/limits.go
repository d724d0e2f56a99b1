package cache

import "time"

// Limits bounds a [Cache]. Each zero field means its default, which is in brackets.
// Slots and memory are shared fairly among rules: while there is room no rule waits, a
// rule that is not alone leaves a quarter of the slots to others, and when all are taken
// the next one goes to the rule that holds fewest.
type Limits struct {
	// Downloads is how many blobs are downloaded at once in all (128), and
	// DownloadsPerHost from one upstream host (32). Copies that no client waits
	// for get at most half of each. A client that gets no slot within SlotTimeout is
	// answered 503 with Retry-After.
	Downloads, DownloadsPerHost int
	// Segments is how many connections at once may download one blob of 16 MiB or more
	// (8). A download begins with one. If the upstream is not nearby, it gets further ones
	// while they bring more together and slots of Downloads and DownloadsPerHost are free.
	// It gives them back when they do not, when others wait for the slots, and when the
	// upstream answers 429, 503 with Retry-After, or without regard to the range. One of
	// them may also stand in for a connection that has been silent for 5 s. If 1, a blob
	// is downloaded over one connection.
	Segments int
	// Requests is how many other requests are sent at once to upstreams in all (256),
	// and RequestsPerHost to one host (64): tag checks, manifests, lists. A client whose
	// request is not sent within SlotTimeout is answered 503 with Retry-After; a client
	// that leaves before takes no slot.
	Requests, RequestsPerHost int
	// Lists is how many lists are answered at once (64), since each is held in memory
	// until its client has read it.
	Lists int
	// Jobs is how many copy jobs run at once (8). A job that brings less than 1 MiB in a
	// minute, while others wait, gives its slot to them and goes on later.
	Jobs int
	// MaxJobs is how many copy jobs may be known at once, running, waiting, queued or
	// parked (10,000). When there are more, the rule that has most makes room, and then
	// that of the new job: of their jobs the parked go first, then platforms that were
	// only looked at, then the newest one that waits. Before all of them go jobs of any rule
	// that another cache has done, and whose events wait there; see [Teller]. If that would be the new job, it is
	// dropped, with a line in the log: the next pull asks for it again.
	MaxJobs int
	// Attempts is how often a copy may fail by itself before its job is parked (20).
	// What its upstream does not have is asked for three times at most. Trouble with the
	// upstream's host, the credential or a full store does not count, but a job is parked
	// when that has lasted for a week, and a parked job is given up after another week.
	Attempts int
	// BlobBytes is the size of the largest blob (64 GiB). A larger one is an error of its
	// upstream. If negative, a blob may have any size.
	BlobBytes int64
	// ManifestMemory is how many bytes of stored manifests are kept in memory (64 MiB),
	// and how many bytes the manifests of copy jobs may take besides. A quarter of it is
	// for stored blobs of at most 16 KiB.
	ManifestMemory int64
	// KeptBytes is how many bytes of tag and referrer lists are kept for when the upstream
	// cannot be asked, and how many of manifests that clients have read and that are
	// not stored (32 MiB each). What was used least recently makes room. If negative,
	// none are kept.
	KeptBytes int64
	// OrphanBytes is how many bytes a download may still fetch when neither a client nor
	// a copy waits for it (1 GiB). If negative, it ends at once.
	OrphanBytes int64
	// LeastRate is how many bytes per second an upstream must send in the middle of a
	// blob, over IdleTimeout (1 KiB/s; 64 KiB/s when nobody waits for the blob), or the
	// connection counts as cut. If negative, it may be as slow as it likes.
	LeastRate int64
	// IdleTimeout is how long an upstream may send nothing in the middle of a blob
	// before the connection counts as cut (30 s).
	IdleTimeout time.Duration
	// SendTimeout is how long a client may take for a piece of a response before its
	// connection is ended (2 min): of 512 KiB, and of up to 4 MiB for a client that took
	// the last ones at once. It replaces the server's WriteTimeout for what is answered
	// here. If negative, a client may take as long as it likes.
	SendTimeout time.Duration
	// AnswerTimeout is how long an upstream may take for the header of a response, token
	// requests and redirects included, before the client gets 504 (20 s). It replaces the
	// AnswerTimeout of an [upstream.Client].
	AnswerTimeout time.Duration
	// StaleTimeout is how long a pull by tag waits for the upstream when something is
	// stored that can be served instead (2 s).
	StaleTimeout time.Duration
	// SlotTimeout is how long a client waits for the slot of a download, a request to an
	// upstream, or a list, before it gets 503 (15 s).
	SlotTimeout time.Duration
	// IndexWait is how long the copy job of an index waits for one of its platforms to be
	// pulled, and that of a platform for one of its layers (24 h).
	IndexWait time.Duration
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
	def(&l.Segments, 8)
	def(&l.Requests, 256)
	def(&l.RequestsPerHost, 64)
	def(&l.Lists, 64)
	def(&l.Jobs, 8)
	def(&l.MaxJobs, 10000)
	def(&l.Attempts, 20)
	if l.ManifestMemory <= 0 {
		l.ManifestMemory = 64 << 20
	}
	if l.OrphanBytes == 0 {
		l.OrphanBytes = 1 << 30
	}
	if l.KeptBytes == 0 {
		l.KeptBytes = 32 << 20
	}
	if l.BlobBytes == 0 {
		l.BlobBytes = 64 << 30
	}
	if l.LeastRate == 0 {
		l.LeastRate = 1 << 10
	}
	if l.SendTimeout == 0 {
		l.SendTimeout = 2 * time.Minute
	}
	dur(&l.IdleTimeout, 30*time.Second)
	dur(&l.AnswerTimeout, 20*time.Second)
	dur(&l.StaleTimeout, 2*time.Second)
	dur(&l.SlotTimeout, 15*time.Second)
	dur(&l.IndexWait, 24*time.Hour)
	return l
}
