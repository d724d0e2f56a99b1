package webhook_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/webhook"
	"github.com/pullthrough/pullthrough/webhook/webhooktest"
)

func TestHeadersOfOnesOwn(t *testing.T) {
	hook := webhooktest.New(t)
	hook.ExpectContentType("application/vnd.own+json")
	sink := &webhook.HTTP{URL: strings.Replace(hook.URL(), "http://", "http://me:pass@", 1), Header: http.Header{
		"x-token": {"t1", "t2"}, "Content-Type": {"application/vnd.own+json"}, "User-Agent": {"own/1"},
	}}
	if err := sink.Send(t.Context(), pushed); err != nil {
		t.Fatal(err)
	}
	h := hook.Deliveries()[0].Header
	if got := h.Values("X-Token"); len(got) != 2 || got[0] != "t1" || h.Get("User-Agent") != "own/1" || h.Get("Authorization") != "Basic bWU6cGFzcw==" {
		t.Errorf("%v", h)
	}
	var host string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) { host = req.Host }))
	defer server.Close()
	sink = &webhook.HTTP{URL: server.URL, Header: http.Header{"host": {"own.example.com"}}}
	if err := sink.Send(t.Context(), pushed); err != nil || host != "own.example.com" {
		t.Errorf("host %q, %v", host, err)
	}
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func TestThePasswordIsNotInTheURLOfARequest(t *testing.T) {
	sink := &webhook.HTTP{URL: "http://me:pass@hook.example.com/", Transport: transport(func(req *http.Request) (*http.Response, error) {
		if user, pass, _ := req.BasicAuth(); req.URL.User != nil || user != "me" || pass != "pass" {
			t.Errorf("%v, %q, %q", req.URL.User, user, pass)
		}
		return nil, io.EOF
	})}
	if err := sink.Send(t.Context(), pushed); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

func TestAuthorizationOfOnesOwnWins(t *testing.T) {
	hook := webhooktest.New(t)
	sink := &webhook.HTTP{URL: strings.Replace(hook.URL(), "http://", "http://me:pass@", 1), Header: http.Header{"Authorization": {"Bearer t"}}}
	if err := sink.Send(t.Context(), pushed); err != nil || hook.Deliveries()[0].Header.Get("Authorization") != "Bearer t" {
		t.Errorf("%v, %v", err, hook.Deliveries())
	}
}

func TestTimeout(t *testing.T) {
	for timeout, want := range map[time.Duration]time.Duration{0: 30 * time.Second, time.Minute: time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			hook := webhooktest.NewHandler()
			hook.Fail(webhooktest.Fault{Hang: true})
			sink := &webhook.HTTP{URL: "http://hook.example.com/", Transport: hook.Transport(), Timeout: timeout}
			d := sink.Deliver(t.Context(), pushed)
			if !errors.Is(d.Err, context.DeadlineExceeded) || d.Duration != want || d.Request == nil || d.Response != nil || d.Error != d.Err.Error() {
				t.Errorf("%+v", d)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if d := sink.Deliver(ctx, pushed); d.Err == nil || d.Duration != time.Second {
				t.Errorf("of the caller's own: %+v", d)
			}
			synctest.Wait()
		})
	}
}

func TestRedirects(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		to     string // "other": another host
		want   string // in the error; "": it is followed
	}{
		"307":          {307, "/new?x=y", ""},
		"308":          {308, "/new?x=y", ""},
		"301":          {301, "/new?x=y", "does not keep the method"},
		"302":          {302, "/new?x=y", "does not keep the method"},
		"303":          {303, "/new?x=y", "does not keep the method"},
		"other host":   {307, "other", "another host"},
		"other scheme": {307, "https", "another host"},
		"endless":      {307, "/hook", "too many redirects"},
		"no target":    {307, "", "answered 307"},
	} {
		t.Run(name, func(t *testing.T) {
			hook, other := webhooktest.New(t), webhooktest.New(t)
			hook.RequireSignature(secrets[0])
			to := c.to
			switch to {
			case "other":
				to = other.URL()
			case "https":
				to = strings.Replace(hook.URL(), "http:", "https:", 1)
			}
			times := 1
			if name == "endless" {
				times = 0
			}
			hook.Fail(webhooktest.Fault{Status: c.status, Redirect: to, Times: times})
			sink := &webhook.HTTP{URL: strings.Replace(hook.URL(), "http://", "http://me:pass@", 1), Header: http.Header{"X-Token": {"t"}}, Secrets: secrets[:1]}
			d := sink.Deliver(t.Context(), pushed)
			got := hook.Deliveries()
			if len(other.Deliveries()) != 0 || d.Response == nil {
				t.Errorf("%d reached the other host; response %v", len(other.Deliveries()), d.Response)
			}
			if c.want != "" {
				if d.Err == nil || !strings.Contains(d.Err.Error(), c.want) || d.Response.StatusCode != c.status || len(got) > 6 || len(hook.Events()) != 0 {
					t.Errorf("%v, response %+v after %d requests; want %q", d.Err, d.Response, len(got), c.want)
				}
				return
			}
			if d.Err != nil || len(got) != 2 {
				t.Fatalf("%v after %d requests", d.Err, len(got))
			}
			if q := got[1]; q.Path != "/new?x=y" || q.Event.ID != pushed.ID || q.Header.Get("X-Token") != "t" || q.Header.Get("Authorization") != "Basic bWU6cGFzcw==" {
				t.Errorf("the redirected request is %+v", q)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		day := 24 * time.Hour
		for text, want := range map[string]time.Duration{
			"": 0, "0": 0, "7": 7 * time.Second, "86399": day - time.Second, "86401": day, "4294967296": day, "18446744073709551615": day,
			"-1": 0, "+5": 0, "1.5": 0, "soon": 0, "99999999999999999999999": 0,
			time.Now().Add(90 * time.Second).UTC().Format(http.TimeFormat): 90 * time.Second,
			time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat):       0,
			time.Now().Add(99 * day).UTC().Format(http.TimeFormat):         day,
			time.Now().Add(time.Hour).UTC().Format(time.RFC850):            time.Hour,
		} {
			hook := webhooktest.NewHandler()
			hook.Fail(webhooktest.Fault{Status: 503, RetryAfter: text})
			sink := &webhook.HTTP{URL: "http://hook.example.com/", Transport: hook.Transport()}
			err := sink.Send(t.Context(), pushed)
			status, ok := errors.AsType[*webhook.StatusError](err)
			if !ok || status.RetryAfter != want || status.StatusCode != 503 || status.Host != "hook.example.com" || err.Error() != "webhook: hook.example.com answered 503 Service Unavailable" {
				t.Errorf("%q: %#v, want %v", text, err, want)
			}
		}
	})
}

func TestOnly2xxTakesOver(t *testing.T) {
	hook := webhooktest.New(t)
	sink := &webhook.HTTP{URL: hook.URL()}
	for _, status := range []int{200, 201, 202, 204, 206, 299, 300, 304, 400, 404, 429, 500, 599} {
		hook.Heal()
		hook.Fail(webhooktest.Fault{Status: status})
		d := sink.Deliver(t.Context(), pushed)
		if (d.Err == nil) != (status < 300) || d.Response == nil || d.Response.StatusCode != status {
			t.Errorf("%d: %v, %+v", status, d.Err, d.Response)
		}
	}
}

// pages answers with a status and so many bytes, which it counts.
func pages(status int, size int64) (answer http.HandlerFunc, sent *atomic.Int64) {
	sent = new(atomic.Int64)
	return func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		for i := range 64 {
			w.Header().Set("X-Long-"+strconv.Itoa(i), strings.Repeat("h", 1000))
		}
		w.WriteHeader(status)
		for chunk := make([]byte, 32<<10); sent.Load() < size; {
			n, err := w.Write(chunk)
			if sent.Add(int64(n)); err != nil {
				return
			}
		}
	}, sent
}

func TestHugeAnswersAreBounded(t *testing.T) {
	const huge = 1 << 30
	for _, status := range []int{200, 500} {
		answer, sent := pages(status, huge)
		server := httptest.NewServer(answer)
		t.Cleanup(server.Close)
		d := (&webhook.HTTP{URL: server.URL}).Deliver(t.Context(), pushed)
		if (d.Err == nil) != (status == 200) || len(d.Response.Content) != 4<<10 {
			t.Errorf("%v, %d bytes of content", d.Err, len(d.Response.Content))
		}
		n := 0
		for name, values := range d.Response.Header {
			n += len(name) + len(strings.Join(values, ""))
		}
		if n > 8<<10 || n < 6<<10 {
			t.Errorf("%d bytes of headers are kept", n)
		}
		if sent.Load() > 64<<20 { // what the sockets hold
			t.Errorf("%d bytes were read", sent.Load())
		}
	}
}

// pipes is a listener without a network, whose connections work in a bubble.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (p pipes) Close() error { close(p); return nil }
func (pipes) Addr() net.Addr { return &net.TCPAddr{} }

// TestConnectionIsKept is in a bubble: net/http keeps a connection only if the end of writing
// the request is seen within 50 ms of the answer, which a busy machine may miss.
func TestConnectionIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer, _ := pages(200, 500<<10)
		server, listener, connections := &http.Server{Handler: answer}, make(pipes), 0
		defer server.Close()
		go func() { _ = server.Serve(listener) }()
		transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			connections++
			listener <- far
			return near, nil
		}}
		defer transport.CloseIdleConnections()
		sink := &webhook.HTTP{URL: "http://hook.example.com/", Transport: transport}
		for range 5 { // the first answer is long, the others are empty
			if err := sink.Send(t.Context(), pushed); err != nil {
				t.Fatal(err)
			}
		}
		if connections != 1 {
			t.Errorf("%d connections for 5 events", connections)
		}
	})
}

func TestCheck(t *testing.T) {
	const url = "https://hook.example.com/"
	for name, c := range map[string]struct {
		sink webhook.HTTP
		want string // "": it is right
	}{
		"right":        {webhook.HTTP{URL: url, Header: http.Header{"X-A": {"b c"}}, Secrets: secrets}, ""},
		"plain http":   {webhook.HTTP{URL: "http://127.0.0.1:1/x"}, ""},
		"no URL":       {webhook.HTTP{}, "not valid"},
		"no host":      {webhook.HTTP{URL: "https:///x"}, "not valid"},
		"no name":      {webhook.HTTP{URL: "https://:8080/x"}, "not valid"},
		"port":         {webhook.HTTP{URL: "https://a.example:65536/x"}, "not valid"},
		"port zero":    {webhook.HTTP{URL: "https://a.example:0/x"}, "not valid"},
		"delete":       {webhook.HTTP{URL: url, Header: http.Header{"X-A": {"hidden\x7f"}}}, "header X-A has a control character"},
		"no URL text":  {webhook.HTTP{URL: "https://a b/%zz"}, "not valid"},
		"scheme":       {webhook.HTTP{URL: "ftp://hook.example.com/x"}, "hook.example.com is neither http nor https"},
		"encoding":     {webhook.HTTP{URL: url, Encoding: 7}, "encoding 7"},
		"header name":  {webhook.HTTP{URL: url, Header: http.Header{"X A": {"b"}}}, `"X A" is no name`},
		"header value": {webhook.HTTP{URL: url, Header: http.Header{"X-A": {"hidden\n"}}}, "header X-A has a control character"},
		"no prefix":    {webhook.HTTP{URL: url, Secrets: []string{strings.TrimPrefix(secrets[0], "whsec_")}}, "signing secret"},
		"no base64":    {webhook.HTTP{URL: url, Secrets: []string{"whsec_hidden!"}}, "signing secret"},
		"short":        {webhook.HTTP{URL: url, Secrets: []string{secrets[0], key(23)}}, "24 to 64 bytes"},
		"long":         {webhook.HTTP{URL: url, Secrets: []string{key(65)}}, "24 to 64 bytes"},
		"least":        {webhook.HTTP{URL: url, Secrets: []string{key(24), key(64)}}, ""},
	} {
		err := c.sink.Check()
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, webhook.ErrConfig) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hidden")) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if c.want != "" {
			if err := c.sink.Send(t.Context(), pushed); err == nil || !errors.Is(err, webhook.ErrConfig) {
				t.Errorf("%s is sent: %v", name, err)
			}
		}
	}
}
