package upstream_test

import (
	"context"
	"fmt"
	"log"
	"net/http"

	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// tracing adds a header to each request and says how it was answered. It logs no header
// and no query, which may hold secrets.
type tracing struct{ inner http.RoundTripper }

// RoundTrip implements http.RoundTripper. It does not change req but a copy.
func (t tracing) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	resp, err := t.inner.RoundTrip(req)
	if err == nil {
		fmt.Println(req.Method, req.URL.Path, resp.StatusCode)
	}
	return resp, err
}

// Any RoundTripper around another one will do, such as that of otelhttp.NewTransport.
func ExampleClient_wrapTransport() {
	registry, err := upstreamtest.Start()
	if err != nil {
		log.Fatal(err)
	}
	defer registry.Close()
	registry.AddImage("team/app", "v1", nil)

	client := &upstream.Client{
		Hosts:         map[string]upstream.Host{registry.Host(): {PlainHTTP: true}},
		WrapTransport: func(inner http.RoundTripper) http.RoundTripper { return tracing{inner} },
	}
	r, err := client.Open(upstream.Source{Rule: "team", Host: registry.Host(), Repository: "team/app"}, nil)
	if err != nil {
		log.Fatal(err)
	}
	_, err = r.Resolve(context.Background(), "v1")
	fmt.Println(err)
	// Output:
	// HEAD /v2/team/app/manifests/v1 200
	// <nil>
}
