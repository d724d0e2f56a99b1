package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/proxy/admin"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook"
	"github.com/pullthrough/pullthrough/webhook/webhooktest"
)

// Secrets that no answer and no line of the log may have.
const (
	token      = "token-of-the-tests-0123456789"
	password   = "passw0rd-of-the-upstream"
	hookSecret = "s3cret-path-of-the-hook"
)

// kit is a cache with its upstream and a receiver, and the admin listener before it.
type kit struct {
	t      *testing.T
	up     *upstreamtest.Registry
	dir    *store.Dir
	path   string // of dir
	cache  *cache.Cache
	outbox *webhook.Outbox
	hook   *webhooktest.Recorder
	server *admin.Server
	url    string
	ending chan struct{}
	log    output
	said   output // all answers
}

// newKit starts all of it. It ends with the test, which fails if a secret was told.
func newKit(t *testing.T, access admin.Access) *kit {
	t.Helper()
	k := &kit{t: t, up: upstreamtest.NewRegistry(t), hook: webhooktest.New(t), path: t.TempDir(), ending: make(chan struct{})}
	set := &auth.CredentialSet{Name: "team", LoginServer: k.up.Host(), Username: auth.Value{Text: auth.NewSensitive("alice")}, Password: auth.Value{Text: auth.NewSensitive(password)}}
	rules, err := rule.NewSet(
		rule.Rule{Name: "local", Source: k.up.Host() + "/*", Target: "local/*"},
		rule.Rule{Name: "secret", Source: k.up.Host() + "/secret/*", Target: "secret/*", Auth: set, Freshness: time.Minute, MaxStale: -1, Platforms: []string{"all"}},
	)
	if err != nil {
		t.Fatal(err)
	}
	if k.dir, err = store.OpenDir(k.path + "/store"); err != nil {
		t.Fatal(err)
	}
	k.dir.MinFree = -1
	k.outbox = &webhook.Outbox{Records: k.dir, Receivers: []webhook.Receiver{
		{Name: "scanner", Sink: &webhook.HTTP{URL: k.hook.URL() + "/" + hookSecret}, Scope: "local/app:v1", Actions: []string{"push"}},
		{Name: "dead", Sink: &webhook.HTTP{URL: "http://127.0.0.1:1/" + hookSecret}},
	}}
	log := slog.New(slog.NewTextHandler(&k.log, nil))
	k.cache = &cache.Cache{Rules: rules, Store: k.dir, Upstream: k.up.Client(), Events: k.outbox}
	k.server = &admin.Server{
		API: &admin.API{
			Cache: k.cache, Store: k.dir, Rules: rules, Outbox: k.outbox, Started: time.Now(), Ending: k.ending, Logger: log,
		},
		Page:    http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "the page") }),
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "the metrics") }),
		Debug:   http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "the profile") }),
		Access:  access,
		Logger:  log,
	}
	server := httptest.NewServer(k.server)
	k.url = server.URL
	t.Cleanup(func() {
		server.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		for _, err := range []error{k.cache.Shutdown(ctx), k.outbox.Shutdown(ctx), k.dir.Close()} {
			if err != nil {
				t.Error(err)
			}
		}
		for _, secret := range []string{token, password, hookSecret} {
			if said := k.log.String() + k.said.String(); strings.Contains(said, secret) {
				t.Errorf("the secret %q was told in:\n%s", secret, said)
			}
		}
	})
	return k
}

// open lets everybody read, and those act who have the token.
func open() admin.Access {
	return admin.Access{Token: auth.Value{Text: auth.NewSensitive(token)}, OpenReading: true}
}

// request makes a request that is not sent yet.
func (k *kit) request(method, path, body string) *http.Request {
	k.t.Helper()
	req, err := http.NewRequestWithContext(k.t.Context(), method, k.url+path, strings.NewReader(body))
	if err != nil {
		k.t.Fatal(err)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return req
}

// do sends a request.
func (k *kit) do(req *http.Request) (status int, body []byte, header http.Header) {
	k.t.Helper()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		k.t.Fatal(err)
	}
	defer resp.Body.Close()
	defer client.CloseIdleConnections()
	body, err = io.ReadAll(resp.Body)
	if err != nil {
		k.t.Fatal(err)
	}
	k.said.Write(body)
	_ = resp.Header.Write(&k.said)
	return resp.StatusCode, body, resp.Header
}

// ask sends a request that must succeed, and reads the answer.
func ask[T any](k *kit, method, path, body string) (out T) {
	k.t.Helper()
	status, data, header := k.do(k.request(method, "/api/v1/"+path, body))
	if status != http.StatusOK || header.Get("Content-Type") != "application/json" {
		k.t.Fatalf("%s %s %s: status %d: %s", method, path, body, status, data)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&out); err != nil {
		k.t.Fatalf("%s %s: %v in %s", method, path, err, data)
	}
	return out
}

// flow sends a request that must be answered by a stream, and reads its lines.
func (k *kit) flow(path, body string) (lines []admin.Line) {
	k.t.Helper()
	status, data, header := k.do(k.request(http.MethodPost, "/api/v1/"+path, body))
	if status != http.StatusOK || header.Get("Content-Type") != "application/x-ndjson" {
		k.t.Fatalf("%s %s: status %d: %s", path, body, status, data)
	}
	for text := range bytes.Lines(data) {
		var line admin.Line
		if err := json.Unmarshal(text, &line); err != nil {
			k.t.Fatalf("%q: %v", text, err)
		}
		lines = append(lines, line)
	}
	return lines
}

// refused fails unless a request gets an error with this status and code, and these words.
func (k *kit) refused(req *http.Request, status int, code admin.Code, words ...string) {
	k.t.Helper()
	got, data, header := k.do(req)
	var body struct{ Error admin.Error }
	err := json.Unmarshal(data, &body)
	if got != status || err != nil || body.Error.Code != code || header.Get("Content-Type") != "application/json" {
		k.t.Errorf("%s %s: status %d, want %d and %s: %s", req.Method, req.URL.RequestURI(), got, status, code, data)
	}
	for _, word := range words {
		if !strings.Contains(body.Error.Message, word) {
			k.t.Errorf("%s %s: %q is not in %s", req.Method, req.URL.RequestURI(), word, data)
		}
	}
}

// until waits until a condition holds.
func (k *kit) until(what string, ready func() bool) {
	k.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ready(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			k.t.Fatalf("waiting for %s: not within 30 s", what)
		}
	}
}

// delivered waits until the receiver got that many requests.
func (k *kit) delivered(n int) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), 30*time.Second)
	defer cancel()
	if err := k.hook.WaitDeliveries(ctx, n); err != nil {
		k.t.Fatal(err)
	}
}

// image adds an image upstream.
func (k *kit) image(repository, tag string, size int) upstreamtest.Image {
	return k.up.AddImage(repository, tag, upstreamtest.Layers(2, size))
}

// target is a body that names an image below local.
func target(reference string) string {
	return fmt.Sprintf(`{"repository": "local/app", "reference": %q}`, reference)
}

// output is what was written by several goroutines.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write appends.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

// String returns all that was written so far.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
