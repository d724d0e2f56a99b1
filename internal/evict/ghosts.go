package evict

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// maxGhosts bounds what is remembered, some 3 MiB.
const maxGhosts = 1 << 16

// Ghosts remembers images that were given up lately, in memory. Such an image that is
// stored again has shown that it is used again, and need not show it a second time. It
// is optional: without it, and after a restart, images that come back are new. The zero
// value is empty and ready. It is safe for concurrent use.
type Ghosts struct {
	mu    sync.Mutex
	seed  maphash.Seed
	known map[uint64]ghost
	rules map[string][]ghostKey // in the order in which they were given up
	count int                   // of what is in rules
	last  uint32                // number of the newest ghost
}

// ghost is an image that was given up: the hour of its last use, and its number.
type ghost struct{ hour, number uint32 }

// ghostKey is an entry of a queue. It is void if the image has another number by now.
type ghostKey struct {
	key    uint64
	number uint32
}

// Evicted remembers images that were given up. kept is the number of images that are
// stored: no more are remembered, and no more than 65,536. If there are too many, the
// oldest ones of the rule that has most are forgotten.
func (g *Ghosts) Evicted(kept int, gone ...Victim) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.known == nil {
		g.seed, g.known, g.rules = maphash.MakeSeed(), map[uint64]ghost{}, map[string][]ghostKey{}
	}
	for _, v := range gone {
		key := g.key(v.Repository, v.Digest)
		g.last++
		g.known[key] = ghost{hour: v.Use.Hour, number: g.last}
		g.rules[v.Rule] = append(g.rules[v.Rule], ghostKey{key, g.last})
		g.count++
	}
	for excess := g.count - min(kept, maxGhosts); excess > 0; excess = g.count - min(kept, maxGhosts) {
		g.forget(excess)
	}
}

// Stored returns the use of an image that is being stored: the first one, or the second
// if the image was given up lately. It is no ghost any more then.
func (g *Ghosts) Stored(repository string, d digest.Digest, now time.Time) Use {
	g.mu.Lock()
	defer g.mu.Unlock()
	u := FirstUse(now)
	if g.known == nil {
		return u
	}
	key := g.key(repository, d)
	if old, ok := g.known[key]; ok {
		delete(g.known, key)
		u.Habit = habit(1, apart(u.Hour, old.hour))
	}
	return u
}

// forget drops up to n ghosts of the rule that has most, as long as it has most. g.mu is
// held.
func (g *Ghosts) forget(n int) {
	rule, most, second := "", 0, 0
	for r, queue := range g.rules {
		if len(queue) > most || len(queue) == most && r < rule {
			rule, most, second = r, len(queue), most
		} else {
			second = max(second, len(queue))
		}
	}
	n = min(n, max(1, most-second))
	for _, k := range g.rules[rule][:n] {
		if g.known[k.key].number == k.number {
			delete(g.known, k.key)
		}
	}
	g.count -= n
	if g.rules[rule] = g.rules[rule][n:]; len(g.rules[rule]) == 0 {
		delete(g.rules, rule)
	}
}

// key stands for an image. Two images with one key, which is next to impossible, cost
// nothing but a guess.
func (g *Ghosts) key(repository string, d digest.Digest) uint64 {
	return maphash.Comparable(g.seed, [2]string{repository, string(d)})
}
