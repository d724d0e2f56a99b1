package webhook_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/pullthrough/pullthrough/webhook"
)

// hidden are the parts of a receiver that nobody may see.
var hidden = []string{
	"SecretUser", "Secret:Pass/word", "Secret%3APass%2Fword", "SecretPath1", "SecretPath2", "SecretQuery", "Secret+Query", "SecretToken", "Secret/Slash", "SecretLead", "Secret7",
	base64.StdEncoding.EncodeToString([]byte("SecretUser:Secret:Pass/word")), strings.TrimPrefix(secrets[0], "whsec_"),
}

// secretive is a sink to host with all of them.
func secretive(host string) *webhook.HTTP {
	return &webhook.HTTP{
		URL:     "http://SecretUser:Secret%3APass%2Fword@" + host + "/services/SecretPath1/SecretPath2?sig=SecretQuery&x=Secret%2BQuery",
		Header:  http.Header{"X-Token": {"Bearer SecretToken", "Secret/Slash"}, "X-Pair": {"SecretLead=Secret7"}},
		Secrets: secrets[:1],
	}
}

// wantHidden looks at everything that a value can be printed as.
func wantHidden(t *testing.T, what string, v any) {
	t.Helper()
	var texts []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		texts = append(texts, fmt.Sprintf(verb, v))
	}
	data, _ := json.Marshal(v) // an Outbox has functions and cannot be marshalled; an error has no fields
	texts = append(texts, string(data))
	var out strings.Builder
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("m", "v", v, slog.Group("g", "v", v))
	}
	texts = append(texts, out.String())
	for _, text := range texts {
		for _, secret := range append(hidden, fmt.Sprintf("%x", "SecretToken")) {
			if strings.Contains(text, secret) {
				t.Errorf("%s shows %q: %s", what, secret, text)
			}
		}
	}
}

func TestNothingPrintsSecrets(t *testing.T) {
	sink := secretive("hook.example.com")
	receiver := webhook.Receiver{Name: "r", Sink: sink}
	box := &webhook.Outbox{Receivers: []webhook.Receiver{receiver}}
	if got := fmt.Sprint(sink, *sink); got != "webhook to http://hook.example.com webhook to http://hook.example.com" {
		t.Errorf("a sink prints as %q", got)
	}
	for name, v := range map[string]any{"HTTP": *sink, "*HTTP": sink, "Receiver": receiver, "*Receiver": &receiver, "Outbox": box,
		"Sinks": webhook.Sinks{sink}, "Filter": webhook.Filter{Sink: sink}, "a struct": struct{ Hook webhook.HTTP }{*sink}} {
		wantHidden(t, name, v)
	}
	if err := box.Start(t.Context()); err != nil { // with its insides
		t.Fatal(err)
	}
	wantHidden(t, "a running Outbox", box)
	if err := box.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestErrorsShowNoSecrets(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch req.Header.Get("X-Case") {
		case "redirect":
			http.Redirect(w, req, "http://other.example.com"+req.URL.RequestURI(), http.StatusTemporaryRedirect)
		case "bad redirect":
			w.Header().Set("Location", "http://%zz"+req.URL.RequestURI())
			w.WriteHeader(http.StatusTemporaryRedirect)
		case "refused":
			w.WriteHeader(403)
		case "broken":
			panic(http.ErrAbortHandler)
		}
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	for name, change := range map[string]func(*webhook.HTTP){
		"redirect": nil, "bad redirect": nil, "refused": nil, "broken": nil,
		"nobody there":   func(h *webhook.HTTP) { h.URL = strings.Replace(h.URL, host, "127.0.0.1:1", 1) },
		"no TLS":         func(h *webhook.HTTP) { h.URL = strings.Replace(h.URL, "http:", "https:", 1) },
		"bad URL":        func(h *webhook.HTTP) { h.URL += "\x7f" },
		"bad scheme":     func(h *webhook.HTTP) { h.URL = strings.Replace(h.URL, "http:", "hxxp:", 1) },
		"bad secret":     func(h *webhook.HTTP) { h.Secrets[0] += "!" },
		"bad header":     func(h *webhook.HTTP) { h.Header.Add("X-Token", "SecretToken\n") },
		"transport":      func(h *webhook.HTTP) { h.Transport = talkative{} },
		"transport, url": func(h *webhook.HTTP) { h.Transport = talkative{wrap: true} },
	} {
		sink := secretive(host)
		sink.Header.Set("X-Case", name)
		sink.Secrets = []string{sink.Secrets[0]}
		if change != nil {
			change(sink)
		}
		d := sink.Deliver(t.Context(), pushed)
		if d.Err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		if strings.Contains(d.Error, "Post ") || !strings.HasPrefix(d.Error, "webhook: ") {
			t.Errorf("%s: %s", name, d.Error)
		}
		wantHidden(t, name, d)
		for err := d.Err; err != nil; { // whoever unwraps sees no more
			wantHidden(t, name, err)
			u, ok := err.(interface{ Unwrap() error })
			if !ok {
				break
			}
			err = u.Unwrap()
		}
		wantHidden(t, name, sink.Check())
	}
}

// talkative is a transport whose errors tell everything.
type talkative struct{ wrap bool }

func (f talkative) RoundTrip(req *http.Request) (*http.Response, error) {
	err := fmt.Errorf("%s with %v failed", req.URL, req.Header)
	if f.wrap {
		return nil, &url.Error{Op: "Post", URL: req.URL.String(), Err: io.ErrUnexpectedEOF}
	}
	return nil, err
}

func TestEchoesAreScrubbed(t *testing.T) {
	for _, status := range []int{200, 500} {
		pad, signed := 0, ""
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			user, password, _ := req.BasicAuth()
			signed = strings.TrimPrefix(req.Header.Get("Webhook-Signature"), "v1,")
			w.Header().Set("X-Echo", req.Header.Get("X-Token")+" "+req.URL.String())
			w.Header().Set("Set-Cookie", "session=SecretToken2")
			w.Header().Set("Location", "https://login.example.com/?return="+url.QueryEscape(req.URL.RequestURI()))
			w.WriteHeader(status)
			var echo strings.Builder
			_ = req.Header.Write(&echo)
			fmt.Fprintln(&echo, req.RequestURI, req.URL.Path, "SecretPath2", req.URL.Query(), user, password, req.Header["Webhook-Signature"])
			phpStyle := strings.ReplaceAll(req.URL.Path+" Secret/Slash", "/", `\/`)
			_, _ = io.WriteString(w, strings.Repeat(".", pad)+echo.String()+phpStyle+`{"token":"SecretToken"}`)
		}))
		defer server.Close()
		sink := secretive(strings.TrimPrefix(server.URL, "http://"))
		// Secrets also lie across the end of what is kept.
		for pad = range 4 << 10 {
			if pad > 8 && pad < 3<<10 || pad%7 != 0 {
				continue
			}
			d := sink.Deliver(t.Context(), pushed)
			if d.Response == nil || d.Response.StatusCode != status {
				t.Fatalf("%+v", d)
			}
			shown := d.Request.Header.Get("Webhook-Signature") + d.Response.Header.Get("Set-Cookie")
			if shown != "REDACTEDREDACTED" || pad == 0 && !strings.Contains(d.Response.Content, "REDACTED") {
				t.Errorf("signature and cookie are %q; content %s", shown, d.Response.Content)
			}
			for _, text := range []string{d.Response.Content, d.Response.Header.Get("X-Echo"), d.Response.Header.Get("Location")} {
				for _, secret := range []string{"Secret", signed} {
					if i := strings.Index(text, secret); i >= 0 {
						t.Fatalf("after %d bytes it shows %q", pad, text[i:])
					}
				}
			}
			if pad == 0 {
				wantHidden(t, "a delivery", d)
			}
		}
	}
}

func TestOutboxLogsNoSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		sink := secretive("hook.example.com")
		sink.Transport = talkative{}
		box := &webhook.Outbox{Logger: slog.New(slog.NewTextHandler(&out, nil)), Receivers: []webhook.Receiver{{Name: "r", Sink: sink}}}
		ping, err := box.Ping(t.Context(), "r")
		if err != nil || ping.Err == nil {
			t.Errorf("%v, %v", ping.Err, err)
		}
		if err := box.Send(t.Context(), pushed); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		all, err := box.Deliveries("r")
		if err != nil || len(all) != 2 {
			t.Errorf("%v, %v", all, err)
		}
		for _, d := range all {
			wantHidden(t, "a delivery", d)
		}
		if err := box.Shutdown(t.Context()); err != nil || !strings.Contains(out.String(), "not delivered") {
			t.Errorf("%v; logged %q", err, out.String())
		}
		wantHidden(t, "the log", out.String())
	})
}
