package upstream_test

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/upstream"
)

// A caller's deadline ends a call if it comes first, and is the caller's own; a limit of
// the Client that comes before it ends the call none the less.
func TestDeadlineOfACaller(t *testing.T) {
	const second = time.Second
	for name, c := range map[string]struct {
		deadline, answer, total, fails time.Duration
		owner                          upstream.Owner
	}{
		"before both limits":           {3 * second, 5 * second, 60 * second, 3 * second, upstream.Caller},
		"after that of the header":     {30 * second, 5 * second, 60 * second, 5 * second, upstream.Home},
		"after that of the whole call": {30 * second, 40 * second, 7 * second, 7 * second, upstream.Home},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, &pipes{handler: slowly(map[string]time.Duration{"hub.example": time.Hour})}, func(t *testing.T, client *upstream.Client, open func(auth.Authenticator) upstream.Repository) {
				client.AnswerTimeout, client.TotalTimeout = c.answer, c.total
				ctx, cancel := context.WithTimeout(t.Context(), c.deadline)
				defer cancel()
				start := time.Now()
				_, err := open(nil).Blob(ctx, layer, 0, -1)
				if e := wantError(t, err, upstream.Unreachable); !e.Timeout || e.Owner != c.owner || time.Since(start) != c.fails {
					t.Errorf("after %v: %+v", time.Since(start), e)
				}
			})
		})
	}
}

// The limit of a whole call is none for the body of a blob.
func TestABlobMayTakeLongerThanACall(t *testing.T) {
	p := &pipes{handler: func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).Flush()
		time.Sleep(time.Minute)
		_, _ = w.Write([]byte("layer"))
	}}
	inBubble(t, p, func(t *testing.T, c *upstream.Client, open func(auth.Authenticator) upstream.Repository) {
		c.TotalTimeout = time.Second
		b, err := open(nil).Blob(t.Context(), layer, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(b); err != nil || string(got) != "layer" {
			t.Errorf("%q, %v", got, err)
		}
		_ = b.Close()
	})
}

// A wrapper may send a request again that got no answer in time.
func TestAWrapperThatRetriesInTime(t *testing.T) {
	var requests atomic.Int32
	p := &pipes{handler: func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == 1 {
			<-r.Context().Done()
			return
		}
		_, _ = w.Write([]byte("layer"))
	}}
	inBubble(t, p, func(t *testing.T, c *upstream.Client, open func(auth.Authenticator) upstream.Repository) {
		c.AnswerTimeout = time.Second
		c.WrapTransport = wrap(func(inner http.RoundTripper, req *http.Request) (*http.Response, error) {
			resp, err := inner.RoundTrip(req)
			if err != nil {
				resp, err = inner.RoundTrip(req)
			}
			return resp, err
		})
		b, err := open(nil).Blob(t.Context(), layer, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(b); err != nil || string(got) != "layer" || requests.Load() != 2 {
			t.Errorf("%q, %v after %d requests", got, err, requests.Load())
		}
		_ = b.Close()
	})
}
