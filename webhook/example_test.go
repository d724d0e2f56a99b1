package webhook_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/pullthrough/pullthrough/webhook"
)

// A receiver in Go checks who sent an event before it believes it.
func ExampleVerify() {
	const secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz" // base64 of 24 bytes
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if err := webhook.Verify(r.Header, body, time.Now(), secret); err != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Println("believed:", r.Header.Get("webhook-id"))
	}))
	defer receiver.Close()

	ev := webhook.Event{ID: "the-id", Timestamp: time.Now(), Action: webhook.ActionPush}
	signed := &webhook.HTTP{URL: receiver.URL, Secrets: []string{secret}}
	fmt.Println(signed.Send(context.Background(), ev))
	unsigned := &webhook.HTTP{URL: receiver.URL}
	fmt.Println(unsigned.Send(context.Background(), ev) != nil)
	// Output:
	// believed: the-id
	// <nil>
	// true
}
