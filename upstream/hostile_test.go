package upstream_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

const secret = "the-secret"

// witness is a server that must not see the secret.
type witness struct {
	*httptest.Server
	mu   sync.Mutex
	seen []string
}

func newWitness(t *testing.T, tls bool) *witness {
	w := &witness{}
	h := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_ = r.ParseForm()
		user, pass, _ := r.BasicAuth()
		var head strings.Builder
		_ = r.Header.Write(&head)
		w.mu.Lock()
		w.seen = append(w.seen, r.URL.String()+head.String()+string(body)+user+pass)
		w.mu.Unlock()
		_, _ = rw.Write([]byte(`{"token":"t"}`))
	})
	if tls {
		w.Server = httptest.NewTLSServer(h)
	} else {
		w.Server = httptest.NewServer(h)
	}
	t.Cleanup(w.Close)
	return w
}

func (w *witness) requests(t *testing.T) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.seen {
		if strings.Contains(s, secret) || strings.Contains(s, "Basic ") || strings.Contains(s, "Bearer ") {
			t.Errorf("a secret reached another host: %s", s)
		}
	}
	return len(w.seen)
}

func login(host string) auth.Authenticator {
	return &auth.CredentialSet{Name: "set", LoginServer: host, Username: auth.Value{Text: auth.NewSensitive("user")}, Password: auth.Value{Text: auth.NewSensitive(secret)}}
}

func open(t *testing.T, up *upstreamtest.Registry, a auth.Authenticator) upstream.Repository {
	t.Helper()
	r, err := up.Client().Open(upstream.Source{Rule: "r", Host: up.Host(), Repository: "team/api"}, a)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantClass(t *testing.T, err error, want upstream.Class) *upstream.Error {
	t.Helper()
	e, ok := errors.AsType[*upstream.Error](err)
	if !ok || e.Class != want {
		t.Fatalf("%v, want class %v", err, want)
	}
	if strings.Contains(err.Error(), secret) {
		t.Errorf("the error holds the secret: %v", err)
	}
	return e
}

func TestRealmOnAnotherHostSeesNothing(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	for _, tls := range []bool{false, true} {
		w := newWitness(t, tls)
		up.Heal()
		up.Fail(upstreamtest.Fault{Kind: "manifest", Challenge: `Bearer realm="` + w.URL + `/token",service="x"`})
		_, _, err := open(t, up, login(up.Host())).Manifest(t.Context(), "v1")
		wantClass(t, err, upstream.Protocol)
		if n := w.requests(t); n != 0 {
			t.Errorf("the foreign token server was asked %d times", n)
		}
	}
}

func TestRedirectsLoseSecrets(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	up.RequireLogin(map[string]string{"user": secret}, nil)
	w := newWitness(t, false)
	u, _ := url.Parse(w.URL)
	d := digest.FromString("x")
	c := up.Client()
	c.Hosts[u.Host] = upstream.Host{PlainHTTP: true}
	repo, err := c.Open(upstream.Source{Rule: "r", Host: up.Host(), Repository: "team/api"}, login(up.Host()))
	if err != nil {
		t.Fatal(err)
	}
	up.AddImage("team/api", "v1", upstreamtest.Layers(1, 10))
	if _, _, err := repo.Manifest(t.Context(), "v1"); err != nil { // a token is there now
		t.Fatal(err)
	}
	up.Fail(upstreamtest.Fault{Kind: "blob", Redirect: w.URL + "/blob?sig=signature"})
	body, err := repo.Blob(t.Context(), d, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	_ = body.Close()
	if n := w.requests(t); n != 1 {
		t.Errorf("the redirect was followed %d times, want once", n)
	}
	w.Close()
	_, err = repo.Blob(t.Context(), d, 0, -1)
	if e := wantClass(t, err, upstream.Unreachable); strings.Contains(e.Error(), "signature") {
		t.Errorf("the error holds the query of a redirect: %v", e)
	}
}

func TestAddressesThatAreNeverDialled(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	for _, host := range []string{"169.254.169.254", "168.63.129.16", "[::ffff:169.254.169.254]", "[fe80::1]", "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::1]", "[fd00:ec2::254]"} {
		up.Heal()
		up.Fail(upstreamtest.Fault{Kind: "blob", Redirect: "http://" + host + "/latest"})
		c := up.Client()
		c.Hosts[host] = upstream.Host{PlainHTTP: true} // being named does not help
		repo, err := c.Open(upstream.Source{Rule: "r", Host: up.Host(), Repository: "team/api"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = repo.Blob(t.Context(), digest.FromString("x"), 0, -1)
		wantClass(t, err, upstream.Protocol)
	}
}

func TestPublicUpstreamMayNotLeadInside(t *testing.T) {
	// A Dial of one's own stands for the public network; the literal address in
	// the redirect is checked all the same.
	up := upstreamtest.NewRegistry(t)
	w := newWitness(t, false)
	up.Fail(upstreamtest.Fault{Kind: "blob", Redirect: w.URL})
	c := &upstream.Client{Hosts: map[string]upstream.Host{"registry.example.com": {PlainHTTP: true}}}
	c.Dial = dialer(up.Host())
	repo, err := c.Open(upstream.Source{Rule: "r", Host: "registry.example.com", Repository: "team/api"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = repo.Blob(t.Context(), digest.FromString("x"), 0, -1)
	wantClass(t, err, upstream.Protocol)
	if w.requests(t) != 0 {
		t.Error("a public upstream led to loopback")
	}
}

func TestLoopOf401Ends(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	up.Fail(upstreamtest.Fault{Kind: "manifest", Challenge: `Bearer realm="http://` + up.Host() + `/token",service="x"`})
	up.RequireLogin(map[string]string{"user": secret}, nil)
	_, _, err := open(t, up, login(up.Host())).Manifest(t.Context(), "v1")
	wantClass(t, err, upstream.Denied)
	if n := len(up.Requests()); n > 6 {
		t.Errorf("%d requests", n)
	}
}

func TestTokenServerThatNeverEnds(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	up.RequireLogin(map[string]string{"user": secret}, nil)
	up.Fail(upstreamtest.Fault{Kind: "token", Do: func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"token":"`))
		for range 64 {
			_, _ = w.Write(make([]byte, 1<<20))
		}
	}})
	_, _, err := open(t, up, login(up.Host())).Manifest(t.Context(), "v1")
	if err == nil {
		t.Fatal("no error")
	}
}

func TestRefusedCredentialIsDenied(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	up.RequireLogin(map[string]string{"user": "another"}, nil)
	_, _, err := open(t, up, login(up.Host())).Manifest(t.Context(), "v1")
	wantClass(t, err, upstream.Denied)
	_, _, err = open(t, up, login("elsewhere.example.com")).Manifest(t.Context(), "v1")
	if e := wantClass(t, err, upstream.Denied); !errors.Is(e, auth.ErrHost) {
		t.Errorf("%v, want ErrHost", e)
	}
}

func TestAnswersThatCannotBeUsed(t *testing.T) {
	for name, f := range map[string]upstreamtest.Fault{
		"encoded":        {Encoding: "gzip", Flip: true, FlipAt: 3},
		"wrong digest":   {WrongDigest: digest.FromString("other").String()},
		"bad digest":     {WrongDigest: "sha256:zz"},
		"flipped bit":    {Flip: true, FlipAt: 3},
		"other type":     {ContentType: "text/html"},
		"schema 1":       {ContentType: "application/vnd.docker.distribution.manifest.v1+prettyjws"},
		"type disagrees": {ContentType: "application/vnd.oci.image.index.v1+json"},
	} {
		t.Run(name, func(t *testing.T) {
			up := upstreamtest.NewRegistry(t)
			up.AddImage("team/api", "v1", upstreamtest.Layers(1, 10))
			f.Kind = "manifest"
			up.Fail(f)
			_, _, err := open(t, up, nil).Manifest(t.Context(), "v1")
			e := wantClass(t, err, upstream.Protocol)
			if name == "schema 1" && !strings.Contains(e.Error(), "schema 1") {
				t.Errorf("%v does not name schema 1", e)
			}
		})
	}
	up := upstreamtest.NewRegistry(t)
	up.AddManifest("team/api", "huge", "application/vnd.oci.image.manifest.v1+json", make([]byte, upstream.MaxManifestSize+1))
	_, _, err := open(t, up, nil).Manifest(t.Context(), "huge")
	wantClass(t, err, upstream.Protocol)
	up.Fail(upstreamtest.Fault{NoLength: true})
	_, _, err = open(t, up, nil).Manifest(t.Context(), "huge")
	wantClass(t, err, upstream.Protocol)
}

func TestResolveSaysWhenHEADIsNotEnough(t *testing.T) {
	for _, f := range []upstreamtest.Fault{{NoDigest: true}, {NoLength: true}, {Status: 405}, {ContentType: "text/plain"}} {
		up := upstreamtest.NewRegistry(t)
		up.AddImage("team/api", "v1", upstreamtest.Layers(1, 10))
		f.Method = "HEAD"
		up.Fail(f)
		if _, err := open(t, up, nil).Resolve(t.Context(), "v1"); !errors.Is(err, upstream.ErrIncomplete) {
			t.Errorf("%+v: %v, want ErrIncomplete", f, err)
		}
	}
}

func TestStatuses(t *testing.T) {
	for status, class := range map[int]upstream.Class{401: upstream.Denied, 403: upstream.Denied, 404: upstream.NotFound, 429: upstream.Limited,
		451: upstream.Denied, 500: upstream.Unreachable, 503: upstream.Unreachable} {
		up := upstreamtest.NewRegistry(t)
		up.Fail(upstreamtest.Fault{Status: status, RetryAfter: "9"})
		_, _, err := open(t, up, nil).Manifest(t.Context(), "v1")
		e := wantClass(t, err, class)
		if e.Status != status || e.RetryAfter != 9*time.Second {
			t.Errorf("%d: %+v", status, e)
		}
	}
	up := upstreamtest.NewRegistry(t)
	up.Fail(upstreamtest.Fault{Status: 429, RetryAfter: time.Now().Add(time.Minute).UTC().Format(http.TimeFormat)})
	_, _, err := open(t, up, nil).Manifest(t.Context(), "v1")
	if e := wantClass(t, err, upstream.Limited); e.RetryAfter < 50*time.Second || e.RetryAfter > time.Minute {
		t.Errorf("Retry-After as a date gives %v", e.RetryAfter)
	}
	up.Stop()
	_, _, err = open(t, up, nil).Manifest(t.Context(), "v1")
	if e := wantClass(t, err, upstream.Unreachable); e.Status != 0 || e.Timeout {
		t.Errorf("%+v", e)
	}
	up2 := upstreamtest.NewRegistry(t)
	up2.Fail(upstreamtest.Fault{Hang: true})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _, err = open(t, up2, nil).Manifest(ctx, "v1")
	if e := wantClass(t, err, upstream.Unreachable); !e.Timeout {
		t.Errorf("%+v, want Timeout", e)
	}
}

func TestBlobRanges(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	data := upstreamtest.Bytes(1, 1000)
	d := up.AddBlob("team/api", data)
	repo := open(t, up, nil)
	read := func(offset, length int64) (upstream.Body, []byte, error) {
		b, err := repo.Blob(t.Context(), d, offset, length)
		if err != nil {
			return b, nil, err
		}
		defer b.Close()
		got, err := io.ReadAll(b)
		return b, got, err
	}
	for _, c := range [][2]int64{{0, -1}, {0, 10}, {10, -1}, {990, 10}} {
		b, got, err := read(c[0], c[1])
		end := int64(1000)
		if c[1] >= 0 {
			end = c[0] + c[1]
		}
		if err != nil || b.Offset != c[0] || b.Size != 1000 || string(got) != string(data[c[0]:end]) {
			t.Errorf("%v: %+v, %d bytes, %v", c, b, len(got), err)
		}
	}
	_, _, err := read(1000, -1)
	wantClass(t, err, upstream.Protocol)
	up.Fail(upstreamtest.Fault{IgnoreRange: true, Times: 1})
	if b, got, err := read(10, 10); err != nil || b.Offset != 0 || len(got) != 1000 {
		t.Errorf("an upstream that ignores ranges: %+v, %d bytes, %v", b, len(got), err)
	}
	up.Fail(upstreamtest.Fault{Cut: 100, Times: 1})
	if _, got, err := read(0, -1); err == nil || len(got) > 100 {
		t.Errorf("a cut body of %d bytes ends with %v", len(got), err)
	}
}

func TestListsFollowLinksOfTheirOwnQuery(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	img := up.AddImage("team/api", "a", upstreamtest.Layers(1, 10))
	for _, tag := range []string{"b", "c", "d", "e"} {
		up.Tag("team/api", tag, img.Digest)
	}
	l := open(t, up, nil).(upstream.TagLister)
	var all []string
	q := url.Values{"n": {"2"}}
	for q != nil {
		page, err := l.Tags(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		all, q = append(all, page.Tags...), page.Next
	}
	if strings.Join(all, "") != "abcde" {
		t.Errorf("tags %v", all)
	}
	sbom := up.AddArtifact("team/api", "", "application/vnd.x.sbom", img, []byte("s"))
	refs := open(t, up, nil).(upstream.ReferrerLister)
	for range 2 {
		page, err := refs.Referrers(t.Context(), img.Digest, url.Values{"artifactType": {"application/vnd.x.sbom"}})
		if err != nil || len(page.Manifests) != 1 || page.Manifests[0].Digest != sbom.Digest {
			t.Fatalf("referrers %+v, %v", page, err)
		}
		up.NoReferrers() // then the fallback tag
		up.AddManifest("team/api", "sha256-"+img.Digest.Encoded(), "application/vnd.oci.image.index.v1+json",
			[]byte(`{"schemaVersion":2,"manifests":[{"mediaType":"`+sbom.MediaType+`","digest":"`+sbom.Digest.String()+`","size":1,"artifactType":"application/vnd.x.sbom"}]}`))
	}
}
