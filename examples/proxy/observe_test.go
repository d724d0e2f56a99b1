package main

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// TestLevels: a failure that an operator should look at is a warning, and a 404 is not. The
// log always has the reason.
func TestLevels(t *testing.T) {
	reason := errors.New("the reason")
	for _, test := range []struct {
		name   string
		status int
		err    error
		want   string
	}{
		{"served", 200, nil, "INFO"},
		{"a part", 206, nil, "INFO"},
		{"not modified", 304, nil, "INFO"},
		{"cut in the middle", 200, reason, "WARN"},
		{"cut in the middle of a part", 206, reason, "WARN"},
		{"cut before the header", 0, reason, "WARN"},
		{"cut without a reason", 0, nil, "WARN"},
		{"malformed", 400, reason, "INFO"},
		{"a client that must prove itself", 401, reason, "WARN"},
		{"denied", 403, reason, "WARN"},
		{"not found", 404, reason, "INFO"},
		{"a write", 405, reason, "INFO"},
		{"no such range", 416, reason, "INFO"},
		{"too many", 429, reason, "WARN"},
		{"our fault", 500, reason, "WARN"},
		{"the upstream's fault", 502, reason, "WARN"},
		{"later", 503, nil, "WARN"},
		{"too slow", 504, reason, "WARN"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var log bytes.Buffer
			observe(slog.New(slog.NewTextHandler(&log, nil)), cache.Outcome{Method: "GET", Status: test.status, Err: test.err})
			said := log.String()
			if strings.Count(said, "\n") != 1 || !strings.Contains(said, " level="+test.want+" msg=request ") {
				t.Errorf("said %q, want one line of level %s", said, test.want)
			}
			if told := strings.Contains(said, `error="the reason"`); told != (test.err != nil) {
				t.Errorf("said %q; the reason is told: %t", said, told)
			}
		})
	}
}

// TestRequestsInTheLog: a pull, a request for a signature that does not exist, and a pull that
// fails since the upstream is down.
func TestRequestsInTheLog(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	img := up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1000))
	p := startProxy(t, file(up))
	signature := strings.Replace(img.Digest.String(), ":", "-", 1) + ".sig"
	for _, test := range []struct {
		reference string
		status    int
		want      string
	}{{"v1", 200, "INFO"}, {signature, 404, "INFO"}, {"v2", 502, "WARN"}} {
		if test.status == 502 {
			up.Stop()
		}
		if status, body := fetch(t, client(), p.url+"/v2/local/team/app/manifests/"+test.reference); status != test.status {
			t.Errorf("%s: status %d, want %d: %s", test.reference, status, test.status, body)
		}
		var line string
		p.until(t, "the line of "+test.reference, func() bool {
			for one := range strings.Lines(p.log.String()) {
				if strings.Contains(one, " msg=request ") && strings.Contains(one, " reference="+test.reference+" ") {
					line = one
				}
			}
			return line != ""
		})
		if !strings.Contains(line, " level="+test.want+" ") || strings.Contains(line, " error=") != (test.status != 200) {
			t.Errorf("the line of %s is %q, want level %s", test.reference, line, test.want)
		}
		if n := strings.Count(p.log.String(), test.reference+" "); n != 1 {
			t.Errorf("%s is in %d lines of the log, want 1:\n%s", test.reference, n, p.log.String())
		}
	}
}

// TestLogLinesAreShort: nothing that a client sends makes a line long.
func TestLogLinesAreShort(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	p := startProxy(t, file(up, "limits: {headerBytes: 1MiB}"))
	long := strings.Repeat("x", 100<<10)
	for _, request := range []struct{ method, path string }{
		{"GET", "/v2/local/team/app/manifests/" + long}, {"GET", "/v2/local/team/app/blobs/sha256:" + long}, {"GET", "/v2/" + long + "/manifests/v1"},
		{"GET", "/v2/local/team/app/tags/list?n=" + long}, {strings.ToUpper(long), "/v2/local/team/app/manifests/v1"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), request.method, p.url+request.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode < 400 {
			t.Errorf("%.60s: status %d", request.path, resp.StatusCode)
		}
	}
	p.signal(t)
	p.wantExit(t, exitOK)
	lines := 0
	for line := range strings.Lines(p.log.String()) {
		if strings.Contains(line, "msg=request ") {
			lines++
		}
		if len(line) > 1<<10 {
			t.Errorf("a line of %d bytes: %.200s", len(line), line)
		}
	}
	if lines != 5 {
		t.Errorf("%d requests are in the log, want 5", lines)
	}
}
