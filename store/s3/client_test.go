package s3_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/store/s3"
)

// credentials are those of a test; they can be told apart from all else in a request.
var credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
	return aws.Credentials{AccessKeyID: "AKIDTEST", SecretAccessKey: "very-secret"}, nil
})

func newStore(t *testing.T, o s3.ClientOptions) *s3.Store {
	t.Helper()
	c, err := s3.NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	st, err := s3.New(s3.Options{Client: c, Bucket: "images", Prefix: "cache"})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func TestRequestsOfTheClient(t *testing.T) {
	var last *http.Request
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		last = r
		w.WriteHeader(http.StatusNotFound)
	}))
	defer srv.Close()
	for _, c := range []struct {
		o            s3.ClientOptions
		region, path string
	}{
		{s3.ClientOptions{Credentials: credentials}, "us-east-1", "/images/cache/v1/images/a!/tags/v1"},
		{s3.ClientOptions{Credentials: credentials, Region: "eu-north-1"}, "eu-north-1", "/images/cache/v1/images/a!/tags/v1"},
		{s3.ClientOptions{}, "", "/images/cache/v1/images/a!/tags/v1"},
	} {
		c.o.Endpoint = srv.URL
		if _, err := newStore(t, c.o).Tag(t.Context(), "a", "v1"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("404 is %v", err)
		}
		auth := last.Header.Get("Authorization")
		if last.URL.Path != c.path || c.region == "" && auth != "" || !strings.Contains(auth, c.region) || strings.Contains(auth, "very-secret") {
			t.Errorf("%+v: %s with Authorization %q, want %s in the region %q", c.o, last.URL.Path, auth, c.path, c.region)
		}
	}
}

func TestHostsAreVirtualIfTheyAreToBe(t *testing.T) {
	var hosts []string
	to := func(o s3.ClientOptions) {
		o.HTTP = doer(func(r *http.Request) (*http.Response, error) {
			hosts = append(hosts, r.URL.Host)
			return nil, errors.New("no network")
		})
		_, _ = newStore(t, o).Tag(t.Context(), "a", "v1")
	}
	to(s3.ClientOptions{Region: "eu-central-1"})
	to(s3.ClientOptions{Endpoint: "https://storage.example", VirtualHosts: true})
	to(s3.ClientOptions{Endpoint: "https://storage.example:9000"})
	seen := strings.Join(hosts, " ")
	for _, want := range []string{"images.s3.eu-central-1.amazonaws.com", "images.storage.example", " storage.example:9000"} {
		if !strings.Contains(seen, want) {
			t.Errorf("requests went to %q, want %s among them", seen, want)
		}
	}
}

type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

func TestOptionsThatCannotBe(t *testing.T) {
	for _, o := range []s3.ClientOptions{
		{}, {Endpoint: "storage.example"}, {Endpoint: "ftp://storage.example"}, {Endpoint: "https://"}, {Endpoint: "https://storage.example/?a=b"},
		{Endpoint: "https://storage.example/#a"}, {Endpoint: "https://user:very-secret@storage.example"}, {Endpoint: "https://user:very-secret@storage example"},
	} {
		_, err := s3.NewClient(o)
		if err == nil || strings.Contains(err.Error(), "very-secret") {
			t.Errorf("%+v: %v", o, err)
		}
	}
	c, err := s3.NewClient(s3.ClientOptions{Region: "eu-central-1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []s3.Options{{Bucket: "images"}, {Client: c}, {Client: c, Bucket: "images", Prefix: "/cache"}, {Client: c, Bucket: "images", Replica: "a/b"}} {
		if _, err := s3.New(o); err == nil || !strings.HasPrefix(err.Error(), "s3: ") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// A client that was made in another way works, too.
func TestClientOfTheProgram(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	c := awss3.New(awss3.Options{Region: "us-east-1", BaseEndpoint: &srv.URL, UsePathStyle: true, Credentials: credentials})
	st, err := s3.New(s3.Options{Client: c, Bucket: "images"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Tag(t.Context(), "a", "v1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("404 is %v", err)
	}
	if !st.Shared() {
		t.Error("the store says that it is not shared")
	}
}
