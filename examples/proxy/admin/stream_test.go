package admin_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/proxy/admin"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// flowing is a stream that goes on.
type flowing struct {
	k     *kit
	resp  *http.Response
	lines *bufio.Scanner
	leave context.CancelFunc
}

// begin begins a prefetch of a tag, and waits for its first line.
func (k *kit) begin(tag string) *flowing {
	k.t.Helper()
	ctx, cancel := context.WithCancel(k.t.Context())
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(k.request("POST", "/api/v1/prefetch", target(tag)).WithContext(ctx))
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { cancel(); resp.Body.Close() })
	f := &flowing{k: k, resp: resp, lines: bufio.NewScanner(resp.Body), leave: cancel}
	if resp.StatusCode != http.StatusOK {
		data, _ := io.ReadAll(resp.Body)
		k.t.Fatalf("status %d: %s", resp.StatusCode, data)
	}
	if line, ok := f.next(); !ok || line.Kind != admin.LineProgress {
		k.t.Fatalf("the first line is %+v", line)
	}
	return f
}

// next returns the next line, or false if there is none.
func (f *flowing) next() (line admin.Line, ok bool) {
	if !f.lines.Scan() {
		return line, false
	}
	if err := json.Unmarshal(f.lines.Bytes(), &line); err != nil {
		f.k.t.Errorf("%q: %v", f.lines.Bytes(), err)
	}
	return line, true
}

// stalled adds images whose layers do not come before the upstream is released.
func (k *kit) stalled(n int) {
	for i := range n {
		tag := fmt.Sprint("v", i)
		img := k.up.AddImage("app", tag, [][]byte{upstreamtest.Bytes(uint64(i), 1<<17)})
		k.up.Fail(upstreamtest.Fault{Kind: "blob", Reference: img.Layers[0].Digest.String(), Stall: 1000})
	}
	k.t.Cleanup(k.up.Release)
}

// TestClientsThatLeave: a stream ends with its client, so that those who leave take no room from
// others; the copies go on. More than sixteen at once are refused, and can come back.
func TestClientsThatLeave(t *testing.T) {
	k := newKit(t, open())
	const most = 16
	k.stalled(most + 1)
	var all []*flowing
	for i := range most {
		all = append(all, k.begin(fmt.Sprint("v", i)))
	}
	status, body, header := k.do(k.request("POST", "/api/v1/prefetch", target("v16")))
	if status != http.StatusTooManyRequests || header.Get("Retry-After") != "10" || !strings.Contains(string(body), `"BUSY"`) {
		t.Errorf("one too many: status %d, Retry-After %q: %s", status, header.Get("Retry-After"), body)
	}
	if got := ask[admin.CopyList](k, "GET", "copies", ""); got.Total != most {
		t.Errorf("%d copies, want %d", got.Total, most)
	}
	for _, f := range all {
		f.leave()
	}
	k.until("the streams to end", func() bool { return strings.Count(k.log.String(), `"admin: prefetch"`) == most })
	if got := ask[admin.CopyList](k, "GET", "copies", ""); got.Total != most {
		t.Errorf("%d copies go on, want %d", got.Total, most)
	}
	last := k.begin("v16")
	k.up.Heal()
	k.up.Release()
	for {
		line, ok := last.next()
		if !ok {
			t.Fatal("the stream has no last line")
		}
		if line.Kind == admin.LineDone {
			break
		}
	}
	k.until("all copies to end", func() bool { return ask[admin.CopyList](k, "GET", "copies", "").Total == 0 })
}

// TestStreamsEndWithTheProgram: when the program ends, a stream says so at once and ends.
func TestStreamsEndWithTheProgram(t *testing.T) {
	k := newKit(t, open())
	k.stalled(1)
	f := k.begin("v0")
	close(k.ending)
	began := time.Now()
	for {
		line, ok := f.next()
		if !ok {
			t.Fatal("the stream has no last line")
		}
		if line.Kind == admin.LineProgress {
			continue
		}
		if line.Kind != admin.LineError || line.Error.Code != admin.CodeEnding {
			t.Errorf("the last line is %+v", line)
		}
		break
	}
	if _, more := f.next(); more || time.Since(began) > 20*time.Second {
		t.Error("the stream goes on")
	}
	k.refused(k.request("POST", "/api/v1/prefetch", target("v0")), http.StatusServiceUnavailable, admin.CodeEnding)
}

// TestPrefetchThatFailsOnTheWay: what fails after the first line is told in the last one.
func TestPrefetchThatFailsOnTheWay(t *testing.T) {
	k := newKit(t, open())
	img := k.image("app", "v1", 1<<17)
	layer := img.Layers[1].Digest.String()
	told := make(chan struct{})
	k.up.Fail(upstreamtest.Fault{Kind: "blob", Reference: layer, Do: func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-told:
		case <-r.Context().Done():
		}
		http.NotFound(w, r)
	}})
	f := k.begin("v1") // which waits for the first line
	close(told)
	var last admin.Line
	for line, more := f.next(); more; line, more = f.next() {
		last = line
	}
	if last.Kind != admin.LineError || last.Error.Code != "MANIFEST_UNKNOWN" && last.Error.Code != "BLOB_UNKNOWN" || !strings.Contains(last.Error.Message, "cache rule 'local'") {
		t.Errorf("%+v, error %v", last, last.Error)
	}
}

// TestOneCheckAtATime: a check reads everything, so a second one is refused meanwhile.
func TestOneCheckAtATime(t *testing.T) {
	k := newKit(t, open())
	for i := range 20 {
		k.image("app", fmt.Sprint("v", i), 1<<17+i)
		k.flow("prefetch", target(fmt.Sprint("v", i)))
	}
	ctx, leave := context.WithCancel(t.Context())
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(k.request("POST", "/api/v1/check", `{"rate": 1000}`).WithContext(ctx))
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp, err)
	}
	defer resp.Body.Close()
	k.refused(k.request("POST", "/api/v1/check", `{"rate": -1}`), http.StatusTooManyRequests, admin.CodeBusy, "a check goes on already")
	leave()
	k.until("the check to end with its client", func() bool {
		status, _, _ := k.do(k.request("POST", "/api/v1/check", `{"rate": -1}`))
		return status == http.StatusOK
	})
}

// deadlines is a ResponseWriter that notes the deadline of each write.
type deadlines struct {
	*httptest.ResponseRecorder
	now   time.Time
	wrote []time.Time
}

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.now = t
	return nil
}

func (d *deadlines) Write(b []byte) (int, error) {
	d.wrote = append(d.wrote, d.now)
	return d.ResponseRecorder.Write(b)
}

// TestClientsThatDoNotRead: every answer and every line has a deadline, which does not stay for
// the next request of the connection.
func TestClientsThatDoNotRead(t *testing.T) {
	k := newKit(t, open())
	k.image("app", "v1", 1000)
	for _, r := range []*http.Request{
		k.request("GET", "/api/v1/stats", ""), k.request("GET", "/api/v1/nothing", ""), k.request("POST", "/api/v1/prefetch", target("v1")),
		k.request("POST", "/api/v1/check", `{"rate": -1}`),
	} {
		w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		k.server.ServeHTTP(w, r)
		if len(w.wrote) == 0 || !w.now.IsZero() {
			t.Errorf("%s: %d writes, and the deadline %v stays", r.URL.Path, len(w.wrote), w.now)
		}
		for _, at := range w.wrote {
			if left := time.Until(at); left <= 0 || left > time.Minute {
				t.Errorf("%s: a write has %v", r.URL.Path, left)
			}
		}
	}
}

// TestCloseEndsTheLook: after Close nothing looks at the store behind requests, and no new look
// begins.
func TestCloseEndsTheLook(t *testing.T) {
	s := &slowSizer{began: make(chan struct{}), ended: make(chan struct{})}
	c := &cache.Cache{Store: s}
	defer c.Shutdown(context.Background())
	a := &admin.API{Cache: c, Store: s}
	w := httptest.NewRecorder()
	a.ServeHTTP(w, httptest.NewRequest("GET", "/api/v1/rules", nil)) // without rules nobody looks
	go a.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/api/v1/repositories?wait=30s", nil))
	<-s.began
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	select {
	case <-s.ended:
	default:
		t.Error("the look goes on")
	}
	n := s.calls.Load()
	a.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/api/v1/repositories", nil))
	if got := s.calls.Load(); got != n {
		t.Error("another look began")
	}
}

// slowSizer is a store whose size is not known before the caller leaves.
type slowSizer struct {
	store.Mem
	began, ended chan struct{}
	calls        atomic.Int32
}

func (s *slowSizer) Size(ctx context.Context) (store.Size, error) {
	if s.calls.Add(1) == 1 {
		close(s.began)
		<-ctx.Done()
		close(s.ended)
	}
	return store.Size{}, ctx.Err()
}
