package gate_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/examples/proxy/gate"
)

func secret(text string) auth.Secret { return auth.Value{Text: auth.NewSensitive(text)} }

func TestHTTPAnswers(t *testing.T) {
	for name, row := range map[string]struct {
		status int
		after  string
		body   string
		want   gate.Answer
		fails  bool
	}{
		"200":             {status: 200, body: "fine", want: gate.Answer{Admitted: true}},
		"204":             {status: 204, want: gate.Answer{Admitted: true}},
		"403":             {status: 403, body: "CVE-1 is in it\nmore", want: gate.Answer{Reason: "CVE-1 is in it"}},
		"409":             {status: 409, body: "\n\n", want: gate.Answer{Reason: "it says no reason"}},
		"403 and a lot":   {status: 403, body: strings.Repeat("é", 1<<20), want: gate.Answer{Reason: strings.Repeat("é", 100)}},
		"425":             {status: 425, after: "90", body: "scanning", want: gate.Answer{Hold: 90 * time.Second, Reason: "scanning"}},
		"429":             {status: 429, after: "90", body: "busy", want: gate.Answer{Hold: 90 * time.Second, Reason: "busy"}},
		"503":             {status: 503, after: "0", body: "down", want: gate.Answer{Hold: time.Second, Reason: "down"}},
		"503 for ever":    {status: 503, after: "999999999", body: "down", want: gate.Answer{Hold: 24 * time.Hour, Reason: "down"}},
		"503 not a time":  {status: 503, after: "soon", body: "down", want: gate.Answer{Hold: time.Minute, Reason: "down"}},
		"503 in the past": {status: 503, after: "Fri, 02 Jan 2026 03:04:05 GMT", body: "down", want: gate.Answer{Hold: time.Second, Reason: "down"}},
		"302":             {status: 302, fails: true},
		"400":             {status: 400, fails: true},
		"401":             {status: 401, fails: true},
		"404":             {status: 404, fails: true},
		"500":             {status: 500, fails: true},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var got gate.Question
			if err := json.NewDecoder(r.Body).Decode(&got); err != nil || got != question || r.Method != "POST" || r.Header.Get("Authorization") != "Bearer hunter2" ||
				r.Header.Get("Content-Type") != "application/json" || r.Host != "gate.example.com" {
				t.Errorf("%s %s %+v %v: %v", r.Method, r.Host, got, r.Header, err)
			}
			if r.URL.Path != "/ask" {
				t.Error("a redirect was followed")
			}
			if row.after != "" {
				w.Header().Set("Retry-After", row.after)
			}
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(row.status)
			_, _ = w.Write([]byte(row.body))
		}))
		h := &gate.HTTP{URL: secret(s.URL + "/ask?key=hunter2"), Headers: map[string]auth.Secret{"Authorization": secret("Bearer hunter2"), "Host": secret("gate.example.com")}}
		got, err := h.Ask(t.Context(), question)
		if (err != nil) != row.fails || got != row.want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		s.Close()
		if _, err := h.Ask(t.Context(), question); err == nil || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "/ask") {
			t.Errorf("%s: a gate that is gone: %v", name, err)
		}
	}
}

// TestHTTPFailures: what cannot be asked is an error without the secrets in it.
func TestHTTPFailures(t *testing.T) {
	secure := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // of the handshake that must fail
	secure.StartTLS()
	defer secure.Close()
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // or the end of the connection is not noticed
		<-r.Context().Done()
	}))
	defer hangs.Close()
	for name, h := range map[string]*gate.HTTP{
		"no URL":      {URL: auth.File("nowhere")},
		"no header":   {URL: secret(secure.URL), Headers: map[string]auth.Secret{"X": auth.File("nowhere")}},
		"a wrong URL": {URL: secret("http://hunter2:x:y/%")},
		"unknown CA":  {URL: secret(secure.URL + "/hunter2")},
		"hangs":       {URL: secret(hangs.URL + "/hunter2")},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if name != "hangs" {
			cancel()
			ctx, cancel = context.WithTimeout(t.Context(), 20*time.Second)
		}
		if a, err := h.Ask(ctx, question); err == nil || a.Admitted || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
		cancel()
	}
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	h := &gate.HTTP{URL: secret(secure.URL), Client: gate.NewClient(roots)}
	if a, err := h.Ask(t.Context(), question); err != nil || !a.Admitted {
		t.Errorf("%+v, %v", a, err)
	}
}
