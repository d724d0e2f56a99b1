package store

import (
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/lru"
)

const (
	// tierFacts is how many facts about Far are remembered of each kind.
	tierFacts = 16 << 10
	// absence is how long it is believed that Far lacks something. Another process may
	// bring it there at any time.
	absence = time.Second
	// presence is how long it is believed that Far has something, where that matters.
	// Another process may delete it.
	presence = time.Minute
	// absenceOfDamaged is how long content whose bytes were wrong counts as missing.
	absenceOfDamaged = 10 * time.Minute
	// recheckAfter is how long a manifest is read near without a look at Far.
	recheckAfter = 5 * time.Minute
)

// farKey is content in a repository, or with no repository the bytes of an origin.
type farKey struct {
	repo, origin string
	digest       digest.Digest
}

func linkOf(repo string, d digest.Digest) farKey { return farKey{repo: repo, digest: d} }
func originOf(want Info) farKey                  { return farKey{origin: want.Origin(), digest: want.Digest} }

// farFact is what Far was found to have.
type farFact struct {
	source   string
	manifest bool
	at       time.Time
}

func factOf(info Info) farFact { return farFact{info.Source, info.IsManifest(), time.Now()} }

// tierMemory is what is remembered of Far. It is safe for concurrent use.
type tierMemory struct {
	era    atomic.Int64 // grows with each change by this process: what was asked before may be untrue
	here   *lru.Cache[farKey, farFact]
	absent *lru.Cache[farKey, time.Time] // until when that is believed

	deletions atomic.Int64 // so far: what was brought near meanwhile may be gone far
}

func newTierMemory() tierMemory {
	return tierMemory{here: lru.New[farKey, farFact](tierFacts), absent: lru.New[farKey, time.Time](tierFacts)}
}

// now returns the era of a question that is asked now.
func (m *tierMemory) now() int64 { return m.era.Load() }

// changed forgets what was known of content that is linked or deleted far.
func (m *tierMemory) changed(keys ...farKey) {
	m.era.Add(1)
	for _, k := range keys {
		m.here.Delete(k)
		m.absent.Delete(k)
	}
}

// came forgets that Far lacked something.
func (m *tierMemory) came(k farKey) {
	m.era.Add(1) // a question that is under way may not see it
	m.absent.Delete(k)
}

// deleted is changed for what was deleted.
func (m *tierMemory) deleted(keys ...farKey) {
	m.deletions.Add(1)
	m.changed(keys...)
}

// found notes content that Far has, as the answer to a question of an era.
func (m *tierMemory) found(repo string, info Info, era int64) {
	k := linkOf(repo, info.Digest)
	m.here.Update(k, func(old farFact, ok bool) (farFact, int64, bool) {
		if m.era.Load() != era {
			return old, 1, ok
		}
		return factOf(info), 1, true
	})
}

// sent notes content that this process has brought far, which began after so many
// deletions. What else comes far meanwhile does not matter: much is sent at once.
func (m *tierMemory) sent(repo string, info Info, deletions int64) {
	k := linkOf(repo, info.Digest)
	m.changed(k, originOf(info))
	m.here.Update(k, func(old farFact, ok bool) (farFact, int64, bool) {
		if m.deletions.Load() != deletions {
			return old, 1, ok
		}
		return factOf(info), 1, true
	})
}

// missed notes what Far lacks, as the answer to a question of an era.
func (m *tierMemory) missed(k farKey, era int64) {
	m.here.Delete(k)
	m.absent.Update(k, func(old time.Time, ok bool) (time.Time, int64, bool) {
		until := time.Now().Add(absence)
		if m.era.Load() != era || old.After(until) {
			return old, 1, ok
		}
		return until, 1, true
	})
}

// damaged notes content of Far whose bytes are wrong. They are not adopted either, which
// would keep them for ever.
func (m *tierMemory) damaged(repo string, info Info) {
	until := time.Now().Add(absenceOfDamaged)
	m.here.Delete(linkOf(repo, info.Digest))
	m.absent.Put(linkOf(repo, info.Digest), until, 1)
	m.absent.Put(originOf(info), until, 1)
}

// has returns what was found far last, which may have been deleted by another process
// since.
func (m *tierMemory) has(k farKey) (farFact, bool) { return m.here.Get(k) }

// hasFrom reports whether Far had content from a source a moment ago.
func (m *tierMemory) hasFrom(repo string, info Info) bool {
	f, ok := m.here.Get(linkOf(repo, info.Digest))
	return ok && f.source == info.Source && time.Since(f.at) < presence
}

// lacks reports whether Far lacked something a moment ago.
func (m *tierMemory) lacks(k farKey) bool {
	until, ok := m.absent.Get(k)
	return ok && time.Now().Before(until)
}

// forget forgets all that Far was found to have, after a deletion.
func (m *tierMemory) forget() {
	m.deleted()
	for k := range m.here.All() {
		m.here.Delete(k)
	}
}
