package upstream_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

func TestStorageSeesNoSecret(t *testing.T) {
	s := newSide(t)
	img := s.up.AddImage("a", "v1", upstreamtest.Layers(1, 200<<10))
	s.up.RequireLogin(users, nil)
	s.who = alice()
	store, err := s.up.RedirectBlobs()
	if err != nil {
		t.Fatal(err)
	}
	d := img.Layers[0].Digest
	b, err := s.repo("a").Blob(t.Context(), d, 100, 50)
	if got := s.read(b, err); len(got) != 50 || b.Offset != 100 {
		t.Errorf("%d bytes, %+v", len(got), b)
	}
	q := store.Requests()
	if len(q) != 1 || q[0].Header.Get("Range") != "bytes=100-149" || !strings.HasPrefix(q[0].Path, "//") {
		t.Fatalf("storage was asked %+v", q)
	}
	for name := range q[0].Header {
		switch name {
		case "Range", "User-Agent", "Accept-Encoding":
		default:
			t.Errorf("the header %s reached the storage", name)
		}
	}
	store.Stop()
	_, err = s.repo("a").Blob(t.Context(), d, 0, -1)
	s.want(err, upstream.Unreachable) // and no signature in its text
}

func TestRedirectsThatAreRefused(t *testing.T) {
	for name, location := range map[string]string{
		"metadata":       "http://169.254.169.254/latest",
		"mapped":         "http://[::ffff:169.254.169.254]/latest",
		"NAT64":          "http://[64:ff9b::a9fe:a9fe]/latest",
		"6to4":           "http://[2002:a9fe:a9fe::1]/latest",
		"decimal":        "http://2852039166/latest",
		"hexadecimal":    "http://0xa9fea9fe/latest",
		"short":          "http://169.254.43518/latest",
		"zone":           "http://[fe80::1%25lo]/",
		"Azure":          "http://168.63.129.16/machine",
		"unspecified":    "http://0.0.0.0:1/",
		"Google by name": "http://metadata.google.internal/",
		"user":           "http://user:hunter2@127.0.0.1:1/",
		"scheme":         "file:///etc/passwd",
		"unreadable":     "http://[::1",
		"no host":        "http:///x",
	} {
		t.Run(name, func(t *testing.T) {
			s := newSide(t)
			s.client.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				if address != s.up.Host() {
					t.Errorf("%s was dialled", address)
				}
				return (&net.Dialer{}).DialContext(ctx, network, address)
			}
			d := s.up.AddBlob("a", []byte("x"))
			s.up.Fail(upstreamtest.Fault{Redirect: location})
			_, err := s.repo("a").Blob(t.Context(), d, 0, -1)
			s.want(err, upstream.Protocol)
		})
	}
}

func TestRedirectsEnd(t *testing.T) {
	s := newSide(t)
	d := s.up.AddBlob("a", []byte("x"))
	s.up.Fail(upstreamtest.Fault{Redirect: "/v2/a/blobs/" + d.String()})
	_, err := s.repo("a").Blob(t.Context(), d, 0, -1)
	s.want(err, upstream.Protocol)
	if n := s.up.Count("", "", ""); n != 11 {
		t.Errorf("%d requests, want 11", n)
	}
}

func TestHTTPSNeverFallsBack(t *testing.T) {
	up, plain := upstreamtest.NewTLSRegistry(t), upstreamtest.NewRegistry(t)
	d := up.AddBlob("a", []byte("x"))
	c := up.Client(plain) // even named
	r, err := c.Open(upstream.Source{Rule: "r", Host: up.Host(), Repository: "a"}, alice())
	if err != nil {
		t.Fatal(err)
	}
	up.Fail(upstreamtest.Fault{Redirect: plain.URL() + "/x"})
	_, err = r.Blob(t.Context(), d, 0, -1)
	wantError(t, err, upstream.Protocol)
	up.Heal()
	up.Fail(upstreamtest.Fault{Challenge: fmt.Sprintf(`Bearer realm="%s/token"`, plain.URL())})
	_, err = r.Blob(t.Context(), d, 0, -1)
	wantError(t, err, upstream.Protocol)
	up.Heal()
	up.Fail(upstreamtest.Fault{Challenge: fmt.Sprintf(`Bearer realm="http://%s/token"`, up.Host())})
	_, err = r.Blob(t.Context(), d, 0, -1)
	wantError(t, err, upstream.Protocol)
	if n := len(plain.Requests()); n != 0 {
		t.Errorf("%d requests over plain HTTP", n)
	}
}
