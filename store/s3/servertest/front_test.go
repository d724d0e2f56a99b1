package servertest_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// front stands before a server and does to requests what a network and a busy server do.
type front struct {
	url string

	mu sync.Mutex
	// fault may answer a request itself, and then returns true.
	fault func(w http.ResponseWriter, r *http.Request) bool
	// change may change an answer. With an error the connection ends without one.
	change   func(*http.Response) error
	requests []string // method and path
}

func newFront(t testing.TB, endpoint string) *front {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	f := &front{}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // which is signed
		},
		ModifyResponse: func(r *http.Response) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.change == nil {
				return nil
			}
			return f.change(r)
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.requests = append(f.requests, r.Method+" "+r.URL.String())
		fault := f.fault
		f.mu.Unlock()
		if fault == nil || !fault(w, r) {
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(srv.Close)
	f.url = srv.URL
	return f
}

// set sets what the front does from now on.
func (f *front) set(fault func(http.ResponseWriter, *http.Request) bool, change func(*http.Response) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault, f.change, f.requests = fault, change, nil
}

// count returns how many requests had a method and a part of a path.
func (f *front) count(method, part string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, r := range f.requests {
		if strings.HasPrefix(r, method+" ") && strings.Contains(r, part) {
			n++
		}
	}
	return n
}

// first returns a function that is true for the first n calls of each of keys.
func first(n int) func(key string) bool {
	var mu sync.Mutex
	seen := map[string]int{}
	return func(key string) bool {
		mu.Lock()
		defer mu.Unlock()
		seen[key]++
		return seen[key] <= n
	}
}

// refuse answers as S3 does.
func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, "<?xml version=\"1.0\"?><Error><Code>"+code+"</Code><Message>No.</Message></Error>")
}

func isComplete(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
}
