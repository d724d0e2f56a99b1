package upstream_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// side is a registry, a client of it and the verbs that tests speak.
type side struct {
	*testing.T
	up     *upstreamtest.Registry
	client *upstream.Client
	who    auth.Authenticator
}

func newSide(t *testing.T) *side {
	s := &side{T: t, up: upstreamtest.NewRegistry(t)}
	s.client = s.up.Client()
	t.Cleanup(s.client.CloseIdleConnections)
	return s
}

// repo opens a repository; every dial that leaves loopback fails the test.
func (s *side) repo(name string) upstream.Repository {
	s.Helper()
	return s.as("rule", name, s.who)
}

func (s *side) as(rule, name string, who auth.Authenticator) upstream.Repository {
	s.Helper()
	r, err := s.client.Open(upstream.Source{Rule: rule, Host: s.up.Host(), Repository: name}, who)
	if err != nil {
		s.Fatal(err)
	}
	return r
}

// want checks that err is an *upstream.Error of the class and holds no secret.
func (s *side) want(err error, class upstream.Class) *upstream.Error {
	s.Helper()
	return wantError(s.T, err, class)
}

func wantError(t *testing.T, err error, class upstream.Class) *upstream.Error {
	t.Helper()
	e, ok := errors.AsType[*upstream.Error](err)
	if !ok {
		t.Fatalf("%T %v is no *upstream.Error", err, err)
	}
	if e.Class != class {
		t.Errorf("class %v of %v, want %v", e.Class, err, class)
	}
	for _, secret := range []string{"hunter2", "sig=", "?", "token-", "a fault of upstreamtest"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%q stands in the error %q", secret, err)
		}
	}
	return e
}

func (s *side) read(b upstream.Body, err error) []byte {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
	defer b.Close()
	data, err := io.ReadAll(b)
	if err != nil {
		s.Fatal(err)
	}
	if b.Length >= 0 && int64(len(data)) != b.Length {
		s.Errorf("%d bytes, though %d were announced", len(data), b.Length)
	}
	return data
}

func TestReadsAnImage(t *testing.T) {
	for _, tls := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls=%v", tls), func(t *testing.T) {
			s := newSide(t)
			if tls {
				s.up = upstreamtest.NewTLSRegistry(t)
				s.client = s.up.Client()
			}
			img := s.up.AddImage("team/app", "v1", upstreamtest.Layers(2, 300<<10))
			r := s.repo("team/app")
			ctx := upstream.WithLoop(t.Context(), "hop-1")
			for _, ref := range []string{"v1", img.Digest.String()} {
				if d, err := r.Resolve(ctx, ref); err != nil || d.Digest != img.Digest || d.Size != img.Size || d.MediaType != img.MediaType {
					t.Errorf("Resolve %s: %+v, %v", ref, d, err)
				}
				d, body, err := r.Manifest(ctx, ref)
				if err != nil || d.Digest != img.Digest || d.MediaType != img.MediaType || !bytes.Equal(body, img.Manifest) {
					t.Errorf("Manifest %s: %+v, %v", ref, d, err)
				}
			}
			layer := img.Layers[1]
			if got := s.read(r.Blob(ctx, layer.Digest, 0, -1)); digest.FromBytes(got) != layer.Digest {
				t.Error("the layer's bytes are others")
			}
			if d, err := r.StatBlob(ctx, layer.Digest); err != nil || d.Size != layer.Size || d.Digest != layer.Digest {
				t.Errorf("StatBlob: %+v, %v", d, err)
			}
			for _, q := range s.up.Requests() {
				if q.Header.Get("CDN-Loop") != "hop-1" || q.Header.Get("User-Agent") == "" || q.Header.Get("Cookie") != "" || q.Header.Get("Authorization") != "" {
					t.Errorf("%s %s with the header %v", q.Method, q.Path, q.Header)
				}
				if q.Kind == "manifest" && (len(q.Header["Accept"]) != 1 || strings.Count(q.Header.Get("Accept"), "/vnd.") != 6) {
					t.Errorf("Accept %q", q.Header["Accept"])
				}
				if q.Header.Get("Range") != "" {
					t.Error("a Range for everything")
				}
			}
			if o := r.(upstream.Originator).Origin(); o != s.up.URL() {
				t.Errorf("Origin %q, want %q", o, s.up.URL())
			}
		})
	}
}

func TestOpenRefusesWhatIsNoSource(t *testing.T) {
	var c upstream.Client
	for _, s := range []upstream.Source{
		{Host: "", Repository: "a"}, {Host: "Docker.io", Repository: "a"}, {Host: "a.example:443", Repository: "a"},
		{Host: "a.example.", Repository: "a"}, {Host: "registry-1.docker.io", Repository: "a"}, {Host: "a/b", Repository: "a"},
		{Host: "u:p@a.example", Repository: "a"}, {Host: "a.example?x", Repository: "a"}, {Host: "a.example#", Repository: "a"},
		{Host: "a.example", Repository: ""}, {Host: "a.example", Repository: "../x"}, {Host: "a.example", Repository: "a/../b"},
		{Host: "a.example", Repository: "A"}, {Host: "a.example", Repository: "a?b"}, {Host: "a.example", Repository: strings.Repeat("a", 256)},
	} {
		if _, err := c.Open(s, nil); err == nil {
			t.Errorf("%+v was opened", s)
		}
	}
}

func TestStatusesHaveClasses(t *testing.T) {
	for status, class := range map[int]upstream.Class{
		400: upstream.Denied, 401: upstream.Denied, 403: upstream.Denied, 404: upstream.NotFound, 410: upstream.Denied, 416: upstream.Protocol,
		429: upstream.Limited, 451: upstream.Denied, 500: upstream.Unreachable, 502: upstream.Unreachable, 503: upstream.Unreachable, 304: upstream.Protocol,
	} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			s := newSide(t)
			s.up.Fail(upstreamtest.Fault{Status: status, RetryAfter: "7"})
			r, d := s.repo("a"), digest.FromString("x")
			_, _, err := r.Manifest(t.Context(), "v1")
			e := s.want(err, class)
			if e.Status != status || e.RetryAfter != 7*time.Second || e.Op != "GET manifest v1" || e.Source.Repository != "a" {
				t.Errorf("%+v", e)
			}
			if code := map[int]string{401: "UNAUTHORIZED", 403: "DENIED", 404: "MANIFEST_UNKNOWN", 429: "TOOMANYREQUESTS"}[status]; code != "" && e.Code != code {
				t.Errorf("code %q, want %q", e.Code, code)
			}
			_, err = r.Resolve(t.Context(), "v1")
			s.want(err, class)
			_, err = r.Blob(t.Context(), d, 0, -1)
			s.want(err, class)
			_, err = r.StatBlob(t.Context(), d)
			s.want(err, class)
			if n := s.up.Count("", "", ""); n != 4 {
				t.Errorf("%d requests for 4 questions: something was asked again", n)
			}
		})
	}
}

func TestRetryAfterIsADateToo(t *testing.T) {
	s := newSide(t)
	s.up.Fail(upstreamtest.Fault{Status: 429, RetryAfter: time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)})
	_, _, err := s.repo("a").Manifest(t.Context(), "v1")
	if e := s.want(err, upstream.Limited); e.RetryAfter < 59*time.Minute || e.RetryAfter > 61*time.Minute {
		t.Errorf("RetryAfter %v", e.RetryAfter)
	}
}

func TestUnreachable(t *testing.T) {
	s := newSide(t)
	s.up.AddImage("a", "v1", nil)
	r := s.repo("a")
	s.up.Stop()
	_, _, err := r.Manifest(t.Context(), "v1")
	if e := s.want(err, upstream.Unreachable); e.Status != 0 || e.Timeout {
		t.Errorf("%+v", e)
	}
	if err := s.up.Restart(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Manifest(t.Context(), "v1"); err != nil {
		t.Errorf("after a restart: %v", err)
	}

	noName := &upstream.Client{Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.DNSError{Err: "no such host", Name: "nowhere.example", IsNotFound: true}
	}}
	r, _ = noName.Open(upstream.Source{Host: "nowhere.example", Repository: "a"}, nil)
	_, _, err = r.Manifest(t.Context(), "v1")
	if e := s.want(err, upstream.Unreachable); e.Status != 0 || !strings.Contains(err.Error(), "no such host") {
		t.Errorf("%v", err)
	}

	stranger := upstreamtest.NewTLSRegistry(t)
	r, _ = (&upstream.Client{}).Open(upstream.Source{Host: stranger.Host(), Repository: "a"}, nil)
	_, _, err = r.Manifest(t.Context(), "v1")
	if s.want(err, upstream.Unreachable); !strings.Contains(err.Error(), "TLS") {
		t.Errorf("%v", err)
	}
}

func TestSlownessIsATimeout(t *testing.T) {
	s := newSide(t)
	s.client.AnswerTimeout = 50 * time.Millisecond
	s.up.Fail(upstreamtest.Fault{Hang: true})
	_, _, err := s.repo("a").Manifest(t.Context(), "v1")
	if e := s.want(err, upstream.Unreachable); !e.Timeout || e.Status != 0 {
		t.Errorf("%+v", e)
	}

	s = newSide(t)
	s.up.AddImage("a", "v1", nil)
	s.client.TotalTimeout = 100 * time.Millisecond
	s.up.Fail(upstreamtest.Fault{Kind: "manifest", Stall: 10})
	_, _, err = s.repo("a").Manifest(t.Context(), "v1")
	if e := s.want(err, upstream.Unreachable); !e.Timeout || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a manifest that stalls: %+v", e)
	}

	s = newSide(t)
	s.up.Fail(upstreamtest.Fault{Hang: true})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err = s.repo("a").Resolve(ctx, "v1")
	if e := s.want(err, upstream.Unreachable); !e.Timeout || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the caller's deadline: %+v", e)
	}
	ctx, leave := context.WithCancelCause(t.Context())
	leave(errors.New("the client left"))
	_, err = s.repo("a").Resolve(ctx, "v1")
	if e := s.want(err, upstream.Unreachable); e.Timeout || !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that left: %+v", e)
	}
}
