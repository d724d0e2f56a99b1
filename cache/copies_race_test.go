package cache_test

import (
	"context"
	"iter"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/cachetest"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// slowList is a store whose records are listed when free is closed.
type slowList struct {
	*store.Mem
	free chan struct{}
}

func (s slowList) RecordKeys(ctx context.Context, kind string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		<-s.free
		s.Mem.RecordKeys(ctx, kind)(yield)
	}
}

// TestPrefetchWhileTheRecordsAreRead: the job that a pull adds later than its answer, since
// the records of a former process are still being read, and a prefetch that reads the same
// manifest meanwhile, do not race.
func TestPrefetchWhileTheRecordsAreRead(t *testing.T) {
	c, up := cachetest.New(t)
	free := make(chan struct{})
	c.Store = slowList{&store.Mem{}, free}
	up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	time.AfterFunc(1500*time.Millisecond, func() { close(free) }) // longer than a pull waits for a record
	if err := c.Prefetch(t.Context(), "hub/team/api", "v1", cache.PrefetchOptions{}); err != nil {
		t.Fatal(err)
	}
}
