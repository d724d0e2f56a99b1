package tour

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/cachetest"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook"
	"github.com/pullthrough/pullthrough/webhook/webhooktest"
)

// queue is a Copier that sends jobs to another process. The channel stands for a message
// queue that delivers at least once.
type queue chan []byte

// Submit returns an error if the job was not taken over: the cache comes back with it.
func (q queue) Submit(_ context.Context, job cache.Job) error {
	message, err := json.Marshal(job) // Data is for Cache.Copy alone
	if err != nil {
		return err
	}
	select {
	case q <- message:
		return nil
	default:
		return errors.New("queue: full")
	}
}

// work does the jobs of a queue until it is closed, each as often as it is delivered.
func (q queue) work(t *testing.T, c *cache.Cache, deliveries int) {
	for message := range q {
		var job cache.Job
		if err := json.Unmarshal(message, &job); err != nil {
			t.Error(err)
			continue
		}
		for range deliveries {
			if err := c.Copy(t.Context(), job); err != nil {
				t.Error(err) // a real one would leave the message in the queue
			}
		}
	}
}

// Copies run in a process of their own. The one that serves sees in the store when they
// are done, and sends their events.
func TestCopiesThroughAQueue(t *testing.T) {
	serves, up := cachetest.New(t)
	hook := webhooktest.New(t)
	jobs := make(queue, 100)
	serves.Copier = jobs
	serves.Events = &webhook.HTTP{URL: hook.URL()}

	// The second process has the same rules and the same store. It must not see the
	// records there, which are those of the copies that the first one waits for: a
	// struct that embeds the interface alone hides all abilities.
	copies := &cache.Cache{Rules: serves.Rules, Store: struct{ store.Store }{serves.Store}, Upstream: up.Client()}
	var worker sync.WaitGroup
	worker.Go(func() { jobs.work(t, copies, 2) })

	img := up.AddImage("team/api", "v1", upstreamtest.Layers(2, 1000))
	pull(t, serves, "hub/team/api", "v1")
	close(jobs)
	worker.Wait()
	end(t, copies)

	hook.WantEvents("push hub/team/api:v1", "push hub/team/api@"+img.Digest.String())
	if serves, copies := serves.Stats().Copied, copies.Stats().Copied; serves != 0 || copies == 0 {
		t.Errorf("the one that serves has copied %d manifests, the other one %d", serves, copies)
	}
}
