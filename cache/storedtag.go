package cache

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/pullthrough/pullthrough/internal/ledger"
	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/internal/origin"
	"github.com/pullthrough/pullthrough/store"
)

// storedTag is what is remembered of a tag. It is replaced, never changed, but for
// checked and asked, which only grow.
type storedTag struct {
	from    string
	man     *oci.Content // what is stored for the tag; nil if nothing is
	era     int64        // of deletions, when it was read
	checked atomic.Int64 // unix nanoseconds of the last good check
	asked   atomic.Int64 // of the last request to the upstream
}

// cost is about how many bytes of memory a tag takes.
func (s *storedTag) cost() int64 {
	if s.man == nil {
		return 256
	}
	return s.man.Cost()
}

// askNow returns the time of a request that is sent now: later than every request
// before it, whatever the clock does.
func (s *storedTag) askNow() time.Time {
	for {
		last := s.asked.Load()
		now := max(time.Now().UnixNano(), last+1)
		if s.asked.CompareAndSwap(last, now) {
			return time.Unix(0, now)
		}
	}
}

// good notes a check, asked at that time, that found the tag unmoved.
func (s *storedTag) good(asked time.Time) {
	for now := asked.UnixNano(); ; {
		last := s.checked.Load()
		if last >= now || s.checked.CompareAndSwap(last, now) {
			return
		}
	}
}

// stays reports whether s is still what is remembered of a tag.
func (l *local) stays(k tagKey, s *storedTag) bool {
	now, ok := l.tags.Get(k)
	return ok && now == s && s.era == l.deleted.era.Load()
}

// tag returns what is stored for a tag, from memory if possible. It is never nil; its
// man is nil if nothing is stored.
func (l *local) tag(ctx context.Context, r origin.Repo, tag string) *storedTag {
	k := tagKey{r.Name, tag}
	old, ok := l.tags.Get(k)
	era := l.deleted.era.Load()
	if ok && old.man != nil && r.MayServe(old.from) && old.era == era {
		return old
	}
	s := &storedTag{era: era}
	t, err := l.store.Tag(ctx, r.Name, tag)
	if errors.Is(err, store.ErrUnavailable) && ok && old.man != nil && r.MayServe(old.from) {
		return old // nothing else is known now
	}
	if err == nil && r.MayServe(t.Source) {
		if man := l.manifest(ctx, r, t.Digest); man != nil {
			s.man, s.from = man, t.Source
			s.checked.Store(t.Asked.UnixNano())
		}
		s.asked.Store(t.Asked.UnixNano())
	}
	l.tags.Update(k, func(now *storedTag, ok bool) (*storedTag, int64, bool) {
		if ok && now != old {
			s = now // another goroutine was faster
		} else if ok {
			s.asked.Store(max(s.asked.Load(), now.asked.Load()))
			if s.man != nil && now.man != nil && s.man.Digest == now.man.Digest && s.from == now.from {
				s.checked.Store(max(s.checked.Load(), now.checked.Load()))
			}
		}
		return s, s.cost(), true
	})
	return s
}

// tagMoved drops what is remembered of a tag, after it moved by a request of that time.
func (l *local) tagMoved(r origin.Repo, tag string, asked time.Time) {
	l.tags.Update(tagKey{r.Name, tag}, func(old *storedTag, ok bool) (*storedTag, int64, bool) {
		s := &storedTag{}
		if ok {
			s.asked.Store(max(old.asked.Load(), asked.UnixNano()))
		}
		return s, s.cost(), true
	})
}

// formerTag is what was remembered of a tag before it moves.
type formerTag struct {
	tag *storedTag // nil if nothing was
	era int64
}

// formerTags returns what is remembered of tags that are about to move.
func (l *local) formerTags(r origin.Repo, tags []ledger.Tag) []formerTag {
	former := make([]formerTag, len(tags))
	for i, t := range tags {
		former[i].era = l.deleted.era.Load()
		former[i].tag, _ = l.tags.Get(tagKey{r.Name, t.Name})
	}
	return former
}

// tagStands remembers that a tag has moved to a manifest, so that the next pull need not
// read it, unless something else was remembered since former.
func (l *local) tagStands(r origin.Repo, t ledger.Tag, former formerTag, man *oci.Content) {
	l.tags.Update(tagKey{r.Name, t.Name}, func(now *storedTag, ok bool) (*storedTag, int64, bool) {
		s := &storedTag{}
		s.asked.Store(t.Seen.UnixNano())
		if ok {
			s.asked.Store(max(now.asked.Load(), t.Seen.UnixNano()))
		}
		if now == former.tag {
			s.man, s.from, s.era = man, r.From, former.era
			s.checked.Store(t.Seen.UnixNano())
		}
		return s, s.cost(), true
	})
}
