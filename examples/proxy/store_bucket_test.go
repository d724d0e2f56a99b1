package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/pullthrough/pullthrough/store/s3"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// s3Secret is the secret key of buckets in tests.
const s3Secret = "a-secret-key-that-is-in-no-log"

// s3Server is a server with the bucket images.
type s3Server struct {
	*testing.T
	url      string
	down     atomic.Bool
	careless atomic.Bool // it ignores the conditions of writes
}

func newS3Server(t *testing.T) *s3Server {
	t.Helper()
	s := &s3Server{T: t}
	fake := gofakes3.New(s3mem.New()).Server()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.down.Load() {
			panic(http.ErrAbortHandler)
		}
		if s.careless.Load() {
			r.Header.Del("If-None-Match")
			r.Header.Del("If-Match")
		}
		fake.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s.url = server.URL
	if _, err := s.client().CreateBucket(t.Context(), &awss3.CreateBucketInput{Bucket: aws.String("images")}); err != nil {
		t.Fatal(err)
	}
	return s
}

// client returns a client of the server.
func (s *s3Server) client() *awss3.Client {
	s.Helper()
	c, err := s3.NewClient(s3.ClientOptions{Endpoint: s.url, Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "images", SecretAccessKey: s3Secret}, nil
	})})
	if err != nil {
		s.Fatal(err)
	}
	return c
}

// keys are the keys of the bucket.
func (s *s3Server) keys() string {
	return fmt.Sprintf("s3: {endpoint: %q, bucket: images, prefix: cache, accessKey: {value: images}, secretKey: {env: S3_SECRET}}", s.url)
}

// has reports whether the bucket has an object whose key has these words in it.
func (s *s3Server) has(words string) bool {
	s.Helper()
	list, err := s.client().ListObjectsV2(s.Context(), &awss3.ListObjectsV2Input{Bucket: aws.String("images")})
	if err != nil {
		s.Fatal(err)
	}
	for _, o := range list.Contents {
		if strings.Contains(*o.Key, words) {
			return true
		}
	}
	return false
}

// TestTier: what is pulled goes into the bucket, and another proxy serves it from there, with the
// upstream gone. What is near is served with the bucket gone.
func TestTier(t *testing.T) {
	up, bucket := upstreamtest.NewRegistry(t), newS3Server(t)
	img := up.AddImage("team/app", "v1", upstreamtest.Layers(2, 100_000))
	start := func(folder string) *process {
		return startProxy(t, file(up, "admin: 127.0.0.1:0", "store: dir:"+folder, "far: {"+bucket.keys()+"}"), "S3_SECRET="+s3Secret)
	}
	firstFolder := t.TempDir()
	first := start(firstFolder)
	wantImage(t, first.url, img, up)
	first.until(t, "the tag in the bucket", func() bool { return bucket.has("/tags/v1") })
	if out := first.out.String(); !strings.Contains(out, "store dir:"+firstFolder+" before s3:images/cache; ") {
		t.Errorf("the line at the start is %q", out)
	}
	up.Stop()

	second := start(t.TempDir())
	wantImage(t, second.url, img, up)
	bucket.down.Store(true)
	wantImage(t, first.url, img, up)
	if status, body := fetch(t, client(), "http://"+adminOf(t, first)+"/readyz"); status != http.StatusOK {
		t.Errorf("without the bucket: /readyz %d: %s", status, body)
	}
	for _, p := range []*process{first, second} {
		p.signal(t)
		p.wantExit(t, exitOK)
		if strings.Contains(p.log.String()+p.out.String(), s3Secret) {
			t.Error("the secret key was told")
		}
	}
}

// inBucket is a far section that is right, for a file with store: dir:PATH.
const inBucket = "far: {s3: {region: eu-central-1, bucket: b, accessKey: {value: a}, secretKey: {value: d}}}\n"

// TestFarMistakes has a row for each mistake of a bucket.
func TestFarMistakes(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} {
		t.Setenv(name, "")
	}
	in := func(keys string) string { return "store: dir:images\nfar:\n  s3:\n    " + keys + "\n" }
	azure := func(keys string) string { return "store: dir:images\nfar:\n  azblob:\n    " + keys + "\n" }
	const keys = ", accessKey: {value: a}, secretKey: {value: b}}"
	const url = "https://account.blob.core.windows.net/images"
	for _, test := range []struct{ name, file, want string }{
		{"in memory", inBucket, "1: far: needs store: dir:PATH, a folder on a disk of this machine"},
		{"nothing", "store: dir:images\nfar: {}\n", "2: far: must have one of s3 and azblob"},
		{"a text", "store: dir:images\nfar: s3\n", "2: far: wants keys with values, not a single value"},
		{"both", "store: dir:images\nfar: {s3: {region: r, bucket: b" + keys + ", azblob: {url: " + url + "}}\n", "2: far: must have one of"},
		{"at the top", "s3: {bucket: b}\n", "1: s3: unknown key; s3 belongs into far"},
		{"misspelt", in("{bucket: b, region: r, prefx: p" + keys), "4: far.s3.prefx: unknown key; did you mean prefix?"},
		{"no bucket", in("{region: r" + keys), "3: far.s3: bucket is missing"},
		{"no region", in("{bucket: b" + keys), "3: far.s3: without an endpoint the region must be set"},
		{"endpoint", in("{bucket: b, endpoint: storage.example.com" + keys), `3: far.s3: the endpoint "storage.example.com" is no http or https URL`},
		{"endpoint with a password", in("{bucket: b, endpoint: 'https://a:hunter2@storage.example.com'" + keys), "3: far.s3: the endpoint has a user, which belongs into the credentials"},
		{"prefix", in("{bucket: b, region: r, prefix: ../x" + keys), "3: far.s3: "},
		{"ca", in("{bucket: b, region: r, ca: nowhere.pem" + keys), "4: far.s3.ca: open nowhere.pem"},
		{"half of the keys", in("{bucket: b, region: r, accessKey: {value: a}}"), "3: far.s3: needs secretKey, too: accessKey and secretKey belong together"},
		{"other half", in("{bucket: b, region: r, secretKey: {value: a}}"), "3: far.s3: needs accessKey, too"},
		{"a session without keys", in("{bucket: b, region: r, sessionToken: {value: a}}"), "3: far.s3: "},
		{"no keys anywhere", in("{bucket: b, region: r}"), "3: far.s3: the credentials cannot be read: environment variable AWS_ACCESS_KEY_ID is not set; give accessKey and secretKey"},
		{"no file of a key", in("{bucket: b, region: r, accessKey: {value: a}, secretKey: {file: nowhere}}"), "3: far.s3: the credentials cannot be read: "},
		{"a key as a text", in("{bucket: b, region: r, accessKey: {value: a}, secretKey: b}"), "4: far.s3.secretKey: wants keys with values"},
		{"a key in a vault", in("{bucket: b, region: r, accessKey: {value: a}, secretKey: {keyVault: https://v.vault.azure.net/secrets/s}}"), "4: far.s3.secretKey.keyVault: unknown key"},
		{"no url", azure("{prefix: p}"), "3: far.azblob: url is missing"},
		{"url", azure("{url: account.blob.core.windows.net}"), "3: far.azblob: the URL of a container is https://ACCOUNT.blob.core.windows.net/CONTAINER"},
		{"url of an account", azure("{url: 'https://account.blob.core.windows.net/'}"), "3: far.azblob: https://account.blob.core.windows.net/ does not end with the name of a container"},
		{"url with a SAS", azure("{url: '" + url + "?sig=hunter2'}"), "3: far.azblob: the URL of a container is"},
		{"key", azure("{url: '" + url + "', key: {value: 'no base64'}}"), "3: far.azblob: the key of the account is not base64"},
		{"no key", azure("{url: '" + url + "', key: {env: NO_SUCH_VARIABLE}}"), "4: far.azblob.key: environment variable NO_SUCH_VARIABLE is not set"},
		{"two ways", azure("{url: '" + url + "', key: {value: aGVsbG8=}, sas: {value: 'sv=1'}}"), "3: far.azblob: is opened in one way: with identity, key or sas"},
		{"identity", azure("{url: '" + url + "', identity: " + uami + "}"), "4: far.azblob.identity: "},
		{"an identity in the open", azure("{url: 'http://account.example.com/images'}"), "3: far.azblob: http://account.example.com/images: a token is sent over https only"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			said := mistakesOf(t, test.file)
			if first, _, _ := strings.Cut(said, "\n"); !strings.Contains(said, test.want) || first != said && test.name != "a session without keys" {
				t.Errorf("got:\n%s\nwant one mistake with %q", said, test.want)
			}
			if strings.Contains(said, "hunter2") {
				t.Errorf("a secret was told: %s", said)
			}
			wantRefusedBySchema(t, test.file, said)
		})
	}
}

// TestFarIsRead: what is right is accepted, without a request to any server.
func TestFarIsRead(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("AWS_ACCESS_KEY_ID", "a")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "b")
	const assigned = "identities: [" + uami + "]\n"
	for _, test := range []struct{ name, far, want string }{
		{"the environment", "s3: {region: r, bucket: b}", "s3:b"},
		{"a server of one's own", "s3: {endpoint: 'https://storage.example.com', bucket: b, prefix: some/prefix, virtualHosts: true, accessKey: {value: a}, secretKey: {value: b}, sessionToken: {value: c}}", "s3:b/some/prefix"},
		{"the identity of the machine", "azblob: {url: 'https://account.blob.core.windows.net/images'}", "azblob:account.blob.core.windows.net/images"},
		{"an identity", "azblob: {url: 'https://account.blob.core.windows.net/images', identity: " + uami + "}", "azblob:account.blob.core.windows.net/images"},
		{"a key", "azblob: {url: 'http://127.0.0.1:10000/account/images', prefix: cache, key: {value: aGVsbG8=}}", "azblob:127.0.0.1:10000/account/images"},
		{"a SAS", "azblob: {url: 'https://account.blob.core.windows.net/images', sas: {value: 'sv=1&sig=2'}}", "azblob:account.blob.core.windows.net/images"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := built(t, assigned+"store: dir:images\nfar: {"+test.far+"}\n")
			if want := "dir:images before " + test.want; s.storeName() != want {
				t.Errorf("the store is %q, want %q", s.storeName(), want)
			}
			if s.eviction().MinFree != defaultMinFree {
				t.Error("the disk of the near store may be filled up")
			}
		})
	}
}

// TestBucketThatCannotBeUsed: a server that ignores the conditions of writes ends the start, and
// one that does not answer does not.
func TestBucketThatCannotBeUsed(t *testing.T) {
	up, bucket := upstreamtest.NewRegistry(t), newS3Server(t)
	img := up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1000))
	config := file(up, "store: dir:"+t.TempDir(), "far: {"+bucket.keys()+"}")
	bucket.careless.Store(true)
	p := launch(t, config, "S3_SECRET="+s3Secret)
	p.wantExit(t, exitFault)
	if !strings.Contains(p.log.String(), "the proxy ends") || !strings.Contains(p.log.String(), "If-None-Match") {
		t.Errorf("the log does not say why:\n%s", p.log.String())
	}
	bucket.careless.Store(false)
	bucket.down.Store(true)
	p = startProxy(t, config, "S3_SECRET="+s3Secret)
	p.until(t, "the log to say that the bucket does not answer", func() bool {
		return strings.Contains(p.log.String(), "the bucket of the store cannot be used now")
	})
	wantImage(t, p.url, img, up)
	bucket.down.Store(false)
	p.until(t, "the copy, once the bucket answers", func() bool { return bucket.has("/tags/v1") })
	p.signal(t)
	p.wantExit(t, exitOK)
}
