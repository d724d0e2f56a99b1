package servertest_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/pullthrough/pullthrough/internal/fakeserver"
	"github.com/pullthrough/pullthrough/store/s3"
)

// The credentials of the servers.
const access, secret = "AKIDACCESS", "not-so-secret-key"

// server is a server with a bucket.
type server struct {
	name     string
	endpoint string
	bucket   string
}

// client returns a client of the server, or of what stands before it.
func client(t testing.TB, endpoint string) *awss3.Client {
	t.Helper()
	c, err := s3.NewClient(s3.ClientOptions{Endpoint: endpoint, Credentials: credentialsOf()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var names atomic.Int64

// newBucket makes a bucket of its own for a test.
func newBucket(t testing.TB, name, endpoint string) server {
	t.Helper()
	s := server{name: name, endpoint: endpoint, bucket: fmt.Sprintf("bucket-%d", names.Add(1))}
	if _, err := client(t, endpoint).CreateBucket(t.Context(), &awss3.CreateBucketInput{Bucket: &s.bucket}); err != nil {
		t.Fatal(err)
	}
	return s
}

// store returns a replica's store in the bucket.
func (s server) store(t testing.TB, endpoint, replica string) *s3.Store {
	t.Helper()
	st, err := s3.New(s3.Options{Client: client(t, endpoint), Bucket: s.bucket, Prefix: "some/prefix", Replica: replica})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// fake returns a gofakes3 in this process. It ignores the conditions of Complete.
func fake(t testing.TB) server {
	t.Helper()
	srv := httptest.NewServer(gofakes3.New(s3mem.New()).Server())
	t.Cleanup(srv.Close)
	return newBucket(t, "gofakes3", srv.URL)
}

// gateway is a versitygw that all tests share.
var gateway struct {
	once     sync.Once
	endpoint string
	err      error
	stop     func()
}

// real returns a versitygw, or skips the test if there is none.
func real(t testing.TB) server {
	t.Helper()
	gateway.once.Do(func() { gateway.endpoint, gateway.stop, gateway.err = startGateway() })
	if errors.Is(gateway.err, exec.ErrNotFound) {
		if os.Getenv("PULLTHROUGH_VERSITYGW") != "" {
			t.Fatal(gateway.err)
		}
		t.Skip(gateway.err)
	}
	if gateway.err != nil {
		t.Fatal(gateway.err)
	}
	return newBucket(t, "versitygw", gateway.endpoint)
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == uploadHalf {
		halfAnUpload(os.Args[2], os.Args[3])
	}
	code := m.Run()
	if gateway.stop != nil {
		gateway.stop()
	}
	os.Exit(code)
}

// startGateway starts a versitygw on a free port, with folders of its own.
func startGateway() (endpoint string, stop func(), err error) {
	program := os.Getenv("PULLTHROUGH_VERSITYGW")
	if program == "" {
		program = "versitygw"
	}
	if program, err = exec.LookPath(program); err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp("", "versitygw-")
	if err != nil {
		return "", nil, err
	}
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		return "", nil, err
	}
	addr, release, err := fakeserver.Reserve()
	if err != nil {
		return "", nil, err
	}
	var log bytes.Buffer
	cmd := exec.Command(program, "--access", access, "--secret", secret, "--port", addr, "--region", "us-east-1", "--quiet",
		"posix", filepath.Join(dir, "data"))
	cmd.Stdout, cmd.Stderr, cmd.Dir = &log, &log, dir
	if err := cmd.Start(); err != nil {
		release()
		return "", nil, err
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	stop = func() {
		_ = cmd.Process.Kill()
		<-exited
		release()
		_ = os.RemoveAll(dir)
	}
	for range 600 {
		select {
		case <-exited:
			stop()
			return "", nil, fmt.Errorf("versitygw: %s", strings.TrimSpace(log.String()))
		case <-time.After(100 * time.Millisecond):
		}
		if c, err := net.Dial("tcp", addr); err == nil {
			_ = c.Close()
			return "http://" + addr, stop, nil
		}
	}
	stop()
	return "", nil, errors.New("versitygw does not listen")
}
