package servertest_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/objectstore"
	"github.com/pullthrough/pullthrough/store/s3"
)

func rangeOf(prefix string) objectstore.Range { return objectstore.Range{Prefix: prefix} }

// uploadHalf is the first argument of a process that uploads half of a blob and waits for
// its death.
const uploadHalf = "upload-half"

func halfAnUpload(endpoint, bucket string) {
	fail := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	c, err := s3.NewClient(s3.ClientOptions{Endpoint: endpoint, Credentials: credentialsOf()})
	fail(err)
	st, err := s3.New(s3.Options{Client: c, Bucket: bucket, Prefix: "some/prefix"})
	fail(err)
	data := large(7)
	w, err := st.Create(context.Background(), "a", blobInfo(data))
	fail(err)
	_, err = w.Write(data)
	fail(err)
	fmt.Println("half")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// A process that dies in the middle of an upload leaves nothing that can be seen, and what
// it leaves is swept.
func TestKilledInTheMiddleOfAnUpload(t *testing.T) {
	for _, s := range servers(t) {
		cmd := exec.Command(os.Args[0], uploadHalf, s.endpoint, s.bucket)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil || line != "half\n" {
			t.Errorf("%s: the process says %q, %v", s.name, line, err)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait()

		st := s.store(t, s.endpoint, "r")
		if _, err := read(t.Context(), st, digest.FromBytes(large(7))); err == nil {
			t.Errorf("%s: half a blob can be read", s.name)
		}
		for key, err := range s.open(t).List(t.Context(), rangeOf("some/")) {
			t.Errorf("%s: half a blob has left %s, %v", s.name, key, err)
		}
		if n, err := st.Sweep(t.Context(), 0); n != 0 || err != nil {
			t.Errorf("%s: an upload that is young is swept: %d, %v", s.name, n, err)
		}
		f := newFront(t, s.endpoint)
		f.set(nil, age)
		if n, err := s.store(t, f.url, "r").Sweep(t.Context(), 0); n != 1 || err != nil {
			t.Errorf("%s: swept are %d, %v, want 1", s.name, n, err)
		}
		noUploads(t, s, s.name)
		if err := write(t.Context(), st, large(7)); err != nil {
			t.Errorf("%s: the next try: %v", s.name, err)
		}
	}
}

// age makes uploads look older than a day.
func age(r *http.Response) error {
	if r.Request.Method != http.MethodGet || !r.Request.URL.Query().Has("uploads") {
		return nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	at := time.Now().Add(-25 * time.Hour).UTC().Format("2006-01-02T15:04:05.000Z")
	body = regexp.MustCompile(`<Initiated>[^<]*`).ReplaceAll(body, []byte("<Initiated>"+at))
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))
	r.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return nil
}

// Two replicas write one blob, link it and move one tag, all at once.
func TestReplicasAtOnce(t *testing.T) {
	for _, s := range servers(t) {
		one, two := s.store(t, s.endpoint, "one"), s.store(t, s.endpoint, "two")
		var wg sync.WaitGroup
		for i := range 6 {
			st := one
			if i%2 == 1 {
				st = two
			}
			wg.Go(func() {
				for _, data := range [][]byte{large(8), []byte("small")} {
					if err := write(t.Context(), st, data); err != nil {
						t.Errorf("%s: %v", s.name, err)
					}
				}
				for j := range 5 {
					at := (i + 5*j) % 20
					_ = st.SetTag(t.Context(), "a", "v1", tagAt(strconv.Itoa(at), time.Duration(at))) // or it is stale
				}
			})
		}
		wg.Wait()
		newest := 0
		for i := range 6 {
			for j := range 5 {
				newest = max(newest, (i+5*j)%20)
			}
		}
		for _, st := range []*s3.Store{one, two} {
			if got, err := st.Tag(t.Context(), "a", "v1"); err != nil || got.Digest != digest.FromString(strconv.Itoa(newest)) {
				t.Errorf("%s: the tag is %v of %v, %v, want the newest", s.name, got.Digest, got.Asked, err)
			}
			for _, data := range [][]byte{large(8), []byte("small")} {
				if got, err := read(t.Context(), st, digest.FromBytes(data)); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%s: %d bytes of %d, %v", s.name, len(got), len(data), err)
				}
			}
		}
		noUploads(t, s, s.name)
	}
}
