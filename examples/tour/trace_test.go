package tour

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/cachetest"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// tracing traces by otelhttp. Its spans stay in memory.
type tracing struct {
	spans    *tracetest.InMemoryExporter
	provider *trace.TracerProvider
	options  []otelhttp.Option
}

func newTracing() *tracing {
	spans := tracetest.NewInMemoryExporter()
	provider := trace.NewTracerProvider(trace.WithSyncer(withoutQueries{spans}))
	return &tracing{spans, provider, []otelhttp.Option{
		otelhttp.WithTracerProvider(provider), otelhttp.WithPropagators(propagation.TraceContext{})}}
}

// transport traces the requests that inner sends. It is for the field WrapTransport of an
// upstream.Client.
func (tr *tracing) transport(inner http.RoundTripper) http.RoundTripper {
	return otelhttp.NewTransport(inner, tr.options...)
}

// outcome puts what the cache did on the span of the client's request. It is for the field
// Observe of a cache.Cache.
func (tr *tracing) outcome(r *http.Request, o cache.Outcome) {
	oteltrace.SpanFromContext(r.Context()).SetAttributes(
		attribute.String("cache.rule", o.Rule), attribute.String("cache.result", string(o.Result)))
}

// withoutQueries is an exporter that cuts the queries off URLs. Where an upstream
// redirects to a storage, the query has a signature that lets everyone read there.
type withoutQueries struct{ trace.SpanExporter }

// ExportSpans implements trace.SpanExporter.
func (e withoutQueries) ExportSpans(ctx context.Context, spans []trace.ReadOnlySpan) error {
	spans = slices.Clone(spans)
	for i, s := range spans {
		spans[i] = withoutQuery{s}
	}
	return e.SpanExporter.ExportSpans(ctx, spans)
}

type withoutQuery struct{ trace.ReadOnlySpan }

// Attributes implements trace.ReadOnlySpan.
func (s withoutQuery) Attributes() []attribute.KeyValue {
	list := slices.Clone(s.ReadOnlySpan.Attributes())
	for i, a := range list {
		if a.Key == "url.full" {
			url, _, _ := strings.Cut(a.Value.AsString(), "?")
			list[i] = a.Key.String(url)
		}
	}
	return list
}

// in runs a client's work in a trace of its own, whose id it returns.
func (tr *tracing) in(t *testing.T, work func(ctx context.Context) error) oteltrace.TraceID {
	t.Helper()
	ctx, span := tr.provider.Tracer("tour").Start(t.Context(), "client")
	defer span.End()
	if err := work(ctx); err != nil {
		t.Error(err)
	}
	return span.SpanContext().TraceID()
}

// pull sends a request as a client with traces does.
func (tr *tracing) pull(ctx context.Context, method, url string) error {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: tr.transport(http.DefaultTransport)}).Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return err
}

// has reports whether a trace has the span of a request, of which method and URL are told.
func (tr *tracing) has(id oteltrace.TraceID, request string) bool {
	for _, s := range tr.spans.GetSpans() {
		told := attribute.NewSet(s.Attributes...)
		method, _ := told.Value("http.request.method")
		url, _ := told.Value("url.full")
		if s.SpanContext.TraceID() == id && method.AsString()+" "+url.AsString() == request {
			return true
		}
	}
	return false
}

// One trace leads from a client through the cache to the upstream: what the cache asks an
// upstream has the values of the context of the client's request, though not its end. What
// a copy downloads behind a pull is in the trace of that pull.
func TestOneTrace(t *testing.T) {
	tr := newTracing()
	c, up := cachetest.New(t)
	client := up.Client()
	client.WrapTransport = tr.transport
	c.Upstream, c.Observe = client, tr.outcome
	server := httptest.NewServer(otelhttp.NewHandler(c, "cache", tr.options...))
	defer server.Close()
	storage, err := up.RedirectBlobs()
	if err != nil {
		t.Fatal(err)
	}
	img := up.AddImage("team/api", "v1", upstreamtest.Layers(2, 1000))
	blob := "/blobs/" + img.Layers[0].Digest.String()

	// As Go methods have a context, too, the last step needs no server.
	steps := []struct{ method, path, asks string }{
		{"GET", blob, "GET"}, // no copy has downloaded it yet
		{"GET", "/manifests/v1", "GET"},
		{"GET", "/manifests/v1", "HEAD"}, // has the tag moved?
		{"HEAD", "/manifests/v1", "HEAD"},
		{"Resolve", "/manifests/v1", "HEAD"},
	}
	var ids []oteltrace.TraceID
	for _, step := range steps {
		ids = append(ids, tr.in(t, func(ctx context.Context) error {
			if step.method == "Resolve" {
				_, err := c.Resolve(ctx, "hub/team/api", "v1")
				return err
			}
			return tr.pull(ctx, step.method, server.URL+"/v2/hub/team/api"+step.path)
		}))
		if err := c.Idle(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	end(t, c) // a download may end its span after the client has all bytes
	for i, step := range steps {
		if !tr.has(ids[i], step.asks+" "+up.URL()+"/v2/team/api"+step.path) {
			t.Errorf("%s %s: no request to the upstream is in the trace", step.method, step.path)
		}
	}
	if !slices.ContainsFunc(tr.spans.GetSpans(), func(s tracetest.SpanStub) bool {
		return slices.Contains(s.Attributes, attribute.String("cache.result", string(cache.ResultChecked)))
	}) {
		t.Error("no span tells what the cache did")
	}
	stored := storage.Requests()[0]
	if !strings.Contains(stored.Query, "sig=") {
		t.Fatalf("the link is not signed: %q", stored.Query)
	}
	if !tr.has(ids[0], "GET http://"+storage.Host()+stored.Path) {
		t.Error("the request to the storage is not in the trace, or with its signature")
	}
}
