package cache_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// refusals are ways in which registries refuse HEAD and serve GET.
var refusals = map[string]upstreamtest.Fault{
	"401": {Status: 401}, "403": {Status: 403}, "404": {Status: 404}, "405": {Status: 405}, "400": {Status: 400}, "501": {Status: 501},
	"a sign-on page": {Do: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Content-Length", "1000")
	}},
	"another length": {Do: func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "999") }},
	"length zero":    {Do: func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "0") }},
	"no length":      {NoLength: true, NoDigest: true},
}

// headRefused makes the upstream refuse HEAD of one kind.
func (s *story) headRefused(kind, how string) {
	f := refusals[how]
	f.Method, f.Kind = "HEAD", kind
	s.up.Fail(f)
}

// An image that shares a layer with one that is stored can be pulled and copied
// from an upstream that refuses HEAD of blobs.
func TestSharedLayerWhereHeadOfBlobsIsRefused(t *testing.T) {
	for how := range refusals {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s := newStory(t)
			s.headRefused("blob", how)
			layers := upstreamtest.Layers(2, 1000)
			one, two := s.up.AddImage("team/one", "v1", layers), s.up.AddImage("team/two", "v1", append(layers, upstreamtest.Bytes(9, 500)))
			three := s.up.AddImage("team/three", "v1", append(layers, upstreamtest.Bytes(10, 500)))
			s.pull("app/one", "v1", one)
			s.settle()
			s.pull("app/two", "v1", two)
			s.settle()
			s.wantManifest("app/three", "v1", three) // the copy alone
			s.settle()
			s.up.Stop()
			s.pull("app/two", "v1", two)
			s.pull("app/three", "v1", three)
		})
	}
}

// That an upstream does not answer HEAD is remembered, so that it costs one request
// and not two.
func TestRefusedHeadIsRemembered(t *testing.T) {
	for _, how := range []string{"403", "405", "another length"} {
		s := newStory(t, oneConnection)
		s.headRefused("blob", how)
		layers := upstreamtest.Layers(4, 1000)
		s.pull("app/api", "v1", s.up.AddImage("team/api", "v1", layers[:1]))
		s.settle()
		other := s.up.AddImage("team/other", "v1", layers)
		s.pull("app/api", "v2", s.up.AddImage("team/api", "v2", layers[1:]))
		s.settle()
		s.up.Reset()
		for _, l := range other.Layers { // all of which the other repository has
			s.wantBlob("app/other", l.Digest)
		}
		s.wantUpstream(map[string]int{"HEAD blob": 1, "GET blob": 4})
	}
	for _, how := range []string{"403", "404", "501"} {
		s := newStory(t)
		s.headRefused("manifest", how)
		img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		s.pull("app/api", "v1", img)
		s.settle()
		s.up.Reset()
		for range 3 {
			s.wantManifest("app/api", "v1", img)
		}
		s.wantUpstream(map[string]int{"HEAD manifest": 1, "GET manifest": 3})
		next := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 2000))
		s.wantManifest("app/api", "v1", next)
	}
}

// A tag moves though its HEAD is refused, and what is stored is not sent again.
func TestTagMovesWhereHeadIsRefused(t *testing.T) {
	for _, how := range []string{"401", "403", "404", "405", "400", "501", "a sign-on page", "no length"} {
		for _, etag := range []string{"", "-", `"1-2"`} {
			t.Run(how+etag, func(t *testing.T) {
				t.Parallel()
				s := newStory(t)
				img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
				s.pull("app/api", "v1", img)
				s.settle()
				s.headRefused("manifest", how)
				s.up.Fail(upstreamtest.Fault{Method: "GET", Kind: "manifest", ETag: etag})
				for range 2 {
					r := s.wantManifest("app/api", "v1", img)
					if cs := r.Header.Get("Cache-Status"); strings.Contains(cs, "stale") || !strings.Contains(cs, "detail=unchanged") {
						t.Errorf("Cache-Status %q, want an answer of the upstream", cs)
					}
					if etag == "" && !strings.Contains(r.Header.Get("Cache-Status"), "fwd-status=304") {
						t.Errorf("Cache-Status %q: the manifest was sent again", r.Header.Get("Cache-Status"))
					}
				}
				s.up.Heal()
				s.headRefused("manifest", how)
				next := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 2000))
				s.wantManifest("app/api", "v1", next)
				r := s.do("HEAD", "/v2/app/api/manifests/v1")
				if r.Header.Get("Docker-Content-Digest") != next.Digest.String() {
					t.Errorf("HEAD: %d %v", r.StatusCode, r.Header)
				}
				r = s.do("HEAD", "/v2/app/api/manifests/"+next.Digest.String())
				if r.StatusCode != 200 || r.Header.Get("Content-Length") != strconv.FormatInt(next.Size, 10) {
					t.Errorf("HEAD by digest: %d %v", r.StatusCode, r.Header)
				}
			})
		}
	}
}

// What a GET refuses too is refused, and what it does not find is not there.
func TestRefusedByBoth(t *testing.T) {
	for status, want := range map[int]int{401: 403, 403: 403, 404: 404, 400: 403} {
		s := newStory(t)
		s.up.Fail(upstreamtest.Fault{Status: status})
		for _, path := range []string{"manifests/v1", "manifests/" + digest.FromString("x").String(), "blobs/" + digest.FromString("x").String()} {
			for _, method := range []string{"HEAD", "GET"} {
				if r := s.do(method, "/v2/app/api/"+path); r.StatusCode != want {
					t.Errorf("%d: %s %s: %d, want %d", status, method, path, r.StatusCode, want)
				}
			}
		}
	}
}

// A page where people sign on proves nothing: through it the bytes of another
// repository are not to be had.
func TestSignOnPageProvesNothing(t *testing.T) {
	for _, how := range []string{"a sign-on page", "another length", "length zero", "no length"} {
		s := newStory(t)
		img := s.up.AddImage("team/secret", "v1", upstreamtest.Layers(1, 1000))
		s.pull("app/secret", "v1", img)
		s.settle()
		page := func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				if do := refusals[how].Do; do != nil {
					do(w, r)
				}
				return
			}
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write([]byte("<html>please sign on"))
		}
		s.up.Fail(upstreamtest.Fault{Repository: "team/mine", Do: page})
		layer := img.Layers[0].Digest
		r := s.blob("app/mine", layer)
		s.wantError(r, 502, "UNKNOWN")
		s.up.Heal()
		s.up.Fail(upstreamtest.Fault{Repository: "team/mine", Kind: "blob", Method: "GET", Status: 403})
		s.up.Fail(upstreamtest.Fault{Repository: "team/mine", Kind: "blob", Do: page})
		s.wantError(s.blob("app/mine", layer), 403, "DENIED")
	}
}

// What is known is not asked: a blob that a manifest names, or that is in flight,
// has its true length for HEAD, whatever the upstream says of it.
func TestHeadOfKnownBlobs(t *testing.T) {
	for how := range refusals {
		s := newStory(t)
		s.headRefused("blob", how)
		img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 100_000))
		s.up.Fail(upstreamtest.Fault{Method: "GET", Kind: "blob", Status: 503})
		s.wantManifest("app/api", "v1", img)
		r := s.do("HEAD", "/v2/app/api/blobs/"+img.Layers[0].Digest.String())
		if r.StatusCode != 200 || r.Header.Get("Content-Length") != "100000" {
			t.Errorf("%s: named by a manifest: %d %v", how, r.StatusCode, r.Header)
		}
		if n := s.up.Count("HEAD", "blob", ""); n != 0 {
			t.Errorf("%s: %d HEADs of what is known", how, n)
		}
	}
	// Two manifests that disagree about a size leave it to the upstream.
	s := newStory(t)
	layer := upstreamtest.Bytes(5, 50_000)
	s.wantManifest("app/api", "bad", s.sized("team/api", "bad", layer, 70))
	s.wantManifest("app/api", "good", s.up.AddImage("team/api", "good", [][]byte{layer}))
	s.settle()
	s.up.Fail(upstreamtest.Fault{Method: "GET", Kind: "blob", Status: 503})
	other := newStory(t)
	bad := other.sized("team/api", "bad", layer, 70)
	other.up.Fail(upstreamtest.Fault{Method: "GET", Kind: "blob", Status: 503})
	other.wantManifest("app/api", "bad", bad)
	other.wantManifest("app/api", "good", other.up.AddImage("team/api", "good", [][]byte{layer}))
	for i, s := range []*story{s, other} {
		if r := s.do("HEAD", "/v2/app/api/blobs/"+bad.Layers[0].Digest.String()); r.Header.Get("Content-Length") != "50000" {
			t.Errorf("story %d: %d %v, want the true length", i, r.StatusCode, r.Header)
		}
	}
	for _, how := range []string{"403", "length zero", "no length", "a sign-on page"} {
		s := newStory(t)
		s.headRefused("blob", how)
		d := s.up.AddBlob("team/api", upstreamtest.Bytes(3, 4*mib))
		s.up.Pace(mib)
		done := make(chan reply, 1)
		go func() { done <- s.blob("app/api", d) }()
		for s.up.BlobBytes(d) == 0 {
			time.Sleep(time.Millisecond) // polls a condition; the test's deadline is the failure
		}
		r := s.do("HEAD", "/v2/app/api/blobs/"+d.String())
		if r.StatusCode != 200 || r.Header.Get("Content-Length") != strconv.Itoa(4*mib) {
			t.Errorf("%s: in flight: %d %v", how, r.StatusCode, r.Header)
		}
		s.up.Pace(0)
		<-done
		// And what nobody knows is asked for in the way that it is fetched.
		other := s.up.AddBlob("team/api", upstreamtest.Bytes(4, 5000))
		empty := s.up.AddBlob("team/api", nil)
		for d, want := range map[digest.Digest]string{other: "5000", empty: "0"} {
			if r := s.do("HEAD", "/v2/app/api/blobs/"+d.String()); r.StatusCode != 200 || r.Header.Get("Content-Length") != want {
				t.Errorf("%s: unknown: %d %v, want %s", how, r.StatusCode, r.Header, want)
			}
		}
	}
}

// Another source of the same repository is another matter: nothing that the former
// one's manifests named is known of it.
func TestReplacedRuleKnowsNoSizes(t *testing.T) {
	s := newStory(t)
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	s.wantManifest("app/api", "v1", img)
	s.settle()
	s.replace(rule.Rule{Source: s.up.Host() + "/elsewhere/*"})
	if r := s.do("HEAD", "/v2/app/api/blobs/"+img.Layers[0].Digest.String()); r.StatusCode != 404 {
		t.Errorf("%d, want what the new source says", r.StatusCode)
	}
}

// sized is an image whose manifest says that its layer has another size.
func (s *story) sized(repo, tag string, layer []byte, size int) upstreamtest.Image {
	s.Helper()
	img := s.up.AddImage(repo, "", [][]byte{layer})
	was := fmt.Sprintf(`"size":%d}]`, len(layer))
	body := strings.Replace(string(img.Manifest), was, fmt.Sprintf(`"size":%d}]`, size), 1)
	if body == string(img.Manifest) {
		s.Fatalf("%s is not in %s", was, body)
	}
	img.Descriptor = s.up.AddManifest(repo, tag, img.MediaType, []byte(body))
	img.Manifest = []byte(body)
	return img
}

// A size belongs to the manifest that names it: one that is wrong makes no layer of
// another image go away, stored or not.
func TestWrongSizeOfAnotherManifest(t *testing.T) {
	layer := upstreamtest.Bytes(7, 200_000)
	for _, size := range []int{10, 100_000, 300_000, 1 << 40} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			t.Run("after it is stored", func(t *testing.T) {
				s := newStory(t)
				good := s.up.AddImage("team/api", "good", [][]byte{layer})
				s.pull("app/api", "good", good)
				s.settle()
				s.wantManifest("app/api", "bad", s.sized("team/api", "bad", layer, size))
				s.settle()
				s.pull("app/api", "good", good)
				s.up.Stop()
				s.pull("app/api", "good", good)
			})
			t.Run("before", func(t *testing.T) {
				s := newStory(t)
				bad := s.sized("team/api", "bad", layer, size)
				s.wantManifest("app/api", "bad", bad)
				s.wantBlob("app/api", bad.Layers[0].Digest) // the bytes are right
				good := s.up.AddImage("team/api", "good", [][]byte{layer})
				s.pull("app/api", "good", good)
				s.settle()
				s.up.Stop()
				s.pull("app/api", "good", good)
				if size < 1<<40 { // there is no room for what claims to be so large, until it is known better
					s.pull("app/api", "bad", bad)
				}
			})
			t.Run("without a length", func(t *testing.T) {
				s := newStory(t)
				s.up.Fail(upstreamtest.Fault{Kind: "blob", NoLength: true})
				bad := s.sized("team/api", "bad", layer, size)
				s.wantManifest("app/api", "bad", bad)
				good := s.up.AddImage("team/api", "good", [][]byte{layer})
				s.wantManifest("app/api", "good", good)
				s.settle()
				s.pull("app/api", "good", good)
			})
		})
	}
}

// A digest that a HEAD has promised and that could not be had is not promised again
// while an older image can be: clients that ask for the tag and then for the digest
// keep their protection.
func TestPromiseOfAHead(t *testing.T) {
	for _, status := range []int{404, 403, 429, 500, 503} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			s := newStory(t)
			img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
			s.pull("app/api", "v1", img)
			s.settle()
			next := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 2000))
			s.up.Fail(upstreamtest.Fault{Method: "GET", Kind: "manifest", Reference: next.Digest.String(), Status: status})
			head := func() reply { return s.do("HEAD", "/v2/app/api/manifests/v1") }
			if d := head().Header.Get("Docker-Content-Digest"); d != next.Digest.String() {
				t.Fatalf("HEAD names %s, want the new digest", d)
			}
			if r := s.manifest("app/api", next.Digest.String()); r.StatusCode == 200 {
				t.Fatal("the digest can be had")
			}
			for range 3 {
				r := head()
				if d := r.Header.Get("Docker-Content-Digest"); r.StatusCode != 200 || d != img.Digest.String() {
					t.Fatalf("HEAD: %d %s, want what can be served", r.StatusCode, d)
				}
				if !strings.Contains(r.Header.Get("Cache-Status"), "fwd=stale") || !strings.Contains(r.Header.Get("Warning"), "team/api") {
					t.Errorf("%v does not say that it is stale, and why", r.Header)
				}
				s.wantManifest("app/api", img.Digest.String(), img)
			}
			if s.up.Heal(); status == 429 {
				return // the host is left alone for a while
			}
			s.wantManifest("app/api", next.Digest.String(), next) // it can be had now
			if d := head().Header.Get("Docker-Content-Digest"); d != next.Digest.String() {
				t.Errorf("HEAD names %s though the new digest can be had", d)
			}
		})
	}
}

// After a while the promise is tried, by the cache and not by the client.
func TestPromiseIsTriedAgain(t *testing.T) {
	inBubble(t, func(c *clock) {
		img := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		c.manifest("v1")
		c.pass(time.Second)
		next := c.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 2000))
		c.up.Fail(upstreamtest.Fault{Method: "GET", Kind: "manifest", Reference: next.Digest.String(), Status: 404})
		want := func(when string, d digest.Digest) {
			c.Helper()
			desc, err := c.cache.Resolve(c.Context(), "app/api", "v1")
			if err != nil || desc.Digest != d {
				c.Errorf("%s: %s, %v, want %s", when, desc.Digest, err, d)
			}
		}
		want("at first", next.Digest)
		_, _, _ = c.cache.Manifest(c.Context(), "app/api", next.Digest.String())
		for range 3 {
			want("it could not be had", img.Digest)
			c.pass(61 * time.Second)
		}
		c.up.Heal()
		want("it can be had again", next.Digest)
	})
}
