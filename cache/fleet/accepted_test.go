package fleet_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// A replica that is given a job says whether it has taken it, has no room for it, or knows that it
// was deleted: the one that gives it goes on to another replica or gives it up.
func TestWhatAReplicaSaysToAJob(t *testing.T) {
	var mu sync.Mutex
	var given []byte // the last job, which did not get through
	s := share(t, 2, func(_ int, r *replica) {
		r.Limits.MaxJobs = 1
		r.Fleet.Transport = transport(func(q *http.Request) (*http.Response, error) {
			if q.URL.Path != "/fleet/v1/copies" {
				return http.DefaultTransport.RoundTrip(q)
			}
			mu.Lock()
			defer mu.Unlock()
			given, _ = io.ReadAll(q.Body)
			return nil, errors.New("the network is down")
		})
	})
	img := s.up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1000))
	owner := s.owner(img)
	s.image([]*replica{s.all[1-owner]}, img)
	s.idle(s.all)
	mu.Lock()
	job := given
	mu.Unlock()
	if job == nil {
		t.Fatal("no job was given")
	}
	r := s.all[owner]
	post := func(when string, want int) {
		t.Helper()
		if got := r.post(t, "POST", "copies", secret, bytes.NewReader(job)); got != want {
			t.Errorf("%s: %d, want %d", when, got, want)
		}
	}
	s.up.Fail(upstreamtest.Fault{Kind: "blob", Hang: true})
	s.up.AddImage("team/app", "v2", upstreamtest.Layers(1, 2000))
	if _, _, err := r.Manifest(t.Context(), "mirror/app", "v2"); err != nil {
		t.Fatal(err)
	}
	post("with as many jobs as it may have", http.StatusServiceUnavailable)
	s.up.Heal()
	s.up.Release()
	s.idle(s.all)
	post("with room", http.StatusAccepted)
	s.idle(s.all)
	if err := r.Delete(t.Context(), "mirror/app", img.Digest.String()); err != nil {
		t.Fatal(err)
	}
	post("after a deletion", http.StatusGone)
}
