package e2e

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/store/azblob"
	"github.com/pullthrough/pullthrough/store/s3"
)

const (
	farBucket  = "images" // of all object stores
	farPrefix  = "cache"
	s3Access   = "access-of-the-tests"
	s3Secret   = "secret-of-the-tests"
	azureUser  = "devstoreaccount1" // of every Azurite, with its public key
	azureShare = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

// farConfig is the object store of a replica.
type farConfig struct {
	Kind string // that of farStore; empty: none
	URL  string
}

// farStore is an object store that replicas share, behind a front that counts what they ask.
type farStore struct {
	farConfig
	t       *testing.T
	address string // of the server, behind the front
	launch  func() *process
	process *process

	requests, sent, received atomic.Int64 // bytes of bodies, as the replicas see it
}

// newFarStore starts an object store with an empty bucket: "versitygw", which speaks S3, or
// "azurite".
func newFarStore(t *testing.T, kind string) *farStore {
	t.Helper()
	f := &farStore{t: t, farConfig: farConfig{Kind: kind}, address: freeAddress(t)}
	dir := t.TempDir()
	switch kind {
	case "versitygw":
		if err := os.Mkdir(filepath.Join(dir, farBucket), 0o755); err != nil {
			t.Fatal(err)
		}
		path := tool(t, kind)
		f.launch = func() *process {
			return startWith(t, []string{"ROOT_ACCESS_KEY=" + s3Access, "ROOT_SECRET_KEY=" + s3Secret}, path, "--port", f.address, "--quiet", "posix", dir)
		}
	case "azurite":
		host, port, _ := strings.Cut(f.address, ":")
		path := tool(t, "azurite-blob")
		f.launch = func() *process {
			return startWith(t, nil, path, "--blobHost", host, "--blobPort", port, "--location", dir, "--silent", "--disableTelemetry", "--skipApiVersionCheck")
		}
	}
	f.start()
	f.listen()
	if kind == "azurite" {
		c, err := f.container()
		if err == nil {
			_, err = c.Create(t.Context(), nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// listen starts the front. While the server does not run, connections to it break.
func (f *farStore) listen() {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: f.address})
			r.Out.Host = r.In.Host // which is signed
			f.requests.Add(1)
			f.sent.Add(max(0, r.In.ContentLength))
		},
		ModifyResponse: func(resp *http.Response) error {
			if resp.Request.Method != http.MethodHead {
				f.received.Add(max(0, resp.ContentLength))
			}
			return nil
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	front := httptest.NewUnstartedServer(proxy)
	front.Config.ErrorLog = log.New(io.Discard, "", 0)
	front.Start()
	f.t.Cleanup(func() {
		front.CloseClientConnections()
		front.Close()
	})
	f.URL = front.URL
}

// start starts the server and waits until it answers.
func (f *farStore) start() {
	f.t.Helper()
	f.process = f.launch()
	f.process.until(f.t, f.Kind, func() bool {
		status, _ := get(f.t, "http://"+f.address+"/")
		return status != 0
	})
}

// end ends the server: as SIGKILL does, if it keeps what it has then. Azurite does not: it
// writes down every 5 s what there is, and at SIGTERM. Killed before that, it has lost the
// container.
func (f *farStore) end() {
	if f.Kind != "azurite" {
		f.process.kill()
	} else if err := f.process.stop(); err != nil {
		f.t.Error(err)
	}
}

// farCount is what replicas have asked of an object store.
type farCount struct{ requests, sent, received int64 }

func (f *farStore) count() farCount {
	return farCount{f.requests.Load(), f.sent.Load(), f.received.Load()}
}

// since is what was asked after an earlier count.
func (f *farStore) since(c farCount) farCount {
	now := f.count()
	return farCount{now.requests - c.requests, now.sent - c.sent, now.received - c.received}
}

// String says how many requests, and how much of a size, were sent and received.
func (c farCount) of(size int) string {
	return fmt.Sprintf("%d requests, %.2f x sent, %.2f x received", c.requests, float64(c.sent)/float64(size), float64(c.received)/float64(size))
}

// container is that of an Azurite.
func (c farConfig) container() (*container.Client, error) {
	return azblob.NewClient(azblob.ClientOptions{Container: farBucket, ConnectionString: auth.NewSensitive(fmt.Sprintf(
		"DefaultEndpointsProtocol=http;AccountName=%s;AccountKey=%s;BlobEndpoint=%s/%[1]s;", azureUser, azureShare, c.URL))})
}

// open opens the store as a replica does.
func (c farConfig) open() (store.Store, error) {
	if c.Kind == "azurite" {
		client, err := c.container()
		if err != nil {
			return nil, err
		}
		return azblob.New(azblob.Options{Client: client, Prefix: farPrefix, Logger: replicaLogger()})
	}
	client, err := s3.NewClient(s3.ClientOptions{Endpoint: c.URL, Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: s3Access, SecretAccessKey: s3Secret}, nil
	})})
	if err != nil {
		return nil, err
	}
	return s3.New(s3.Options{Client: client, Bucket: farBucket, Prefix: farPrefix, Logger: replicaLogger()})
}
