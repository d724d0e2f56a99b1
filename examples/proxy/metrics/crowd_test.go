package metrics_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream"
)

// all maps every repository to one of the same name.
type all struct{}

func (all) Match(_ context.Context, repository string) (*rule.Match, error) {
	return &rule.Match{Rule: &rule.Rule{Name: "all"}, Repository: repository, Source: upstream.Source{Host: "registry.example.com", Repository: repository, Rule: "all"}}, nil
}

// taker is a Copier that takes jobs and does none of them.
type taker struct{}

func (taker) Submit(context.Context, cache.Job) error { return nil }

// inMemory reaches a handler without a socket.
type inMemory struct{ h http.Handler }

func (m inMemory) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	m.h.ServeHTTP(w, r)
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

// cpu returns the time that the processors have spent on this process, in nanoseconds.
func cpu(tb testing.TB) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// serve scrapes a handler and returns how many bytes it sent.
func serve(tb testing.TB, h http.Handler) int {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		tb.Fatal(w.Code)
	}
	return w.Body.Len()
}
