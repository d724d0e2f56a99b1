package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/pullthrough/pullthrough/webhook"
	"github.com/pullthrough/pullthrough/webhook/webhooktest"
)

// An outbox gives each event to every receiver whose scope it is in, and tries again
// what failed. With a store.Dir as its Records it does so over restarts; here they are
// in memory.
func ExampleOutbox() {
	hook, err := webhooktest.Start() // stands for a receiver
	if err != nil {
		log.Fatal(err)
	}
	defer hook.Close()
	hook.Fail(webhooktest.Fault{Status: 503, Times: 1}) // it is down for a moment

	outbox := &webhook.Outbox{
		Receivers: []webhook.Receiver{
			{Name: "scanner", Sink: &webhook.HTTP{URL: hook.URL()}, Scope: "app/api:*"},
			{Name: "audit", Sink: webhook.SinkFunc(func(context.Context, webhook.Event) error { return nil }), Scope: "other/tool:*"},
		},
		FirstPause: 10 * time.Millisecond,
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := outbox.Start(ctx); err != nil { // takes up what a former process left
		log.Fatal(err)
	}
	ev := webhook.Event{ID: "the-id", Timestamp: time.Now(), Action: webhook.ActionPush,
		Target: webhook.Target{MediaType: "application/vnd.oci.image.manifest.v1+json", Digest: "sha256:0a", Size: 5, Length: 5,
			Repository: "app/api", Tag: "v1"}}
	if err := outbox.Send(ctx, ev); err != nil { // a cache does this; see cache.Cache.Events
		log.Fatal(err)
	}
	err = errors.Join(hook.Wait(ctx, 1), outbox.Shutdown(ctx))
	for _, ev := range hook.Events() {
		fmt.Println(ev.ID, ev.Action, ev.Subject())
	}
	fmt.Println(len(hook.Deliveries()), "tries", err)
	// Output:
	// the-id push app/api:v1
	// 2 tries <nil>
}
