package upstream

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	orasauth "oras.land/oras-go/v2/registry/remote/auth"

	"github.com/pullthrough/pullthrough/auth"
)

// A call that was sent before there was a token, and is refused when there is one, shows
// that one, however old it is, and asks for none.
func TestARefusalThatComesLate(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	refuse, arrived := make(chan struct{}), make(chan struct{})
	var s *httptest.Server
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		name := strings.TrimPrefix(req.URL.Path, "/v2/a/manifests/")
		mu.Lock()
		seen = append(seen, name+" "+req.Header.Get("Authorization"))
		mu.Unlock()
		switch {
		case name == "/token":
			fmt.Fprint(w, `{"token":"one"}`)
			return
		case req.Header.Get("Authorization") == "Bearer one":
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			w.Header().Set("Content-Length", "2")
			w.Header().Set("Docker-Content-Digest", "sha256:"+strings.Repeat("a", 64))
			return
		case name == "late":
			close(arrived)
			<-refuse
		}
		w.Header().Set("Www-Authenticate", `Bearer realm="`+s.URL+`/token",scope="repository:a:pull"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer s.Close()
	host := strings.TrimPrefix(s.URL, "http://")
	c := &Client{Hosts: map[string]Host{host: {PlainHTTP: true}}}
	defer c.CloseIdleConnections()
	source := Source{Rule: "r", Host: host, Repository: "a"}
	repo, err := c.Open(source, nil)
	if err != nil {
		t.Fatal(err)
	}
	resolve := func(ctx context.Context, tag string) {
		if _, err := repo.Resolve(ctx, tag); err != nil {
			t.Error(tag, err)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { resolve(t.Context(), "late") })
	<-arrived
	resolve(t.Context(), "soon")
	tokens := c.engine.sessions.tokens
	key := tokenKey{c.engine.sessions.get(source, auth.Credential{}, nil).tokens, host, orasauth.SchemeBearer, "repository:a:pull"}
	tokens.Update(key, func(have token, ok bool) (token, int64, bool) {
		have.received = have.received.Add(-time.Hour)
		return have, 1, ok
	})
	close(refuse)
	wg.Wait()
	want := []string{"late ", "soon ", "/token ", "soon Bearer one", "late Bearer one"}
	if strings.Join(seen, ", ") != strings.Join(want, ", ") {
		t.Errorf("the server saw %q, want %q", seen, want)
	}
}
