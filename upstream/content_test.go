package upstream_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

func TestIncompleteHeads(t *testing.T) {
	for name, f := range map[string]upstreamtest.Fault{
		"no digest": {NoDigest: true},
		"no length": {Do: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			w.Header().Set("Docker-Content-Digest", digest.FromString("x").String())
			w.Header().Set("Transfer-Encoding", "chunked")
			w.(http.Flusher).Flush()
		}},
		"type":    {ContentType: "application/json"},
		"no HEAD": {Status: http.StatusMethodNotAllowed},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSide(t)
			s.up.AddImage("a", "v1", nil)
			f.Method = http.MethodHead
			s.up.Fail(f)
			if d, err := s.repo("a").Resolve(t.Context(), "v1"); !errors.Is(err, upstream.ErrIncomplete) {
				t.Errorf("%+v, %v", d, err)
			}
		})
	}
}

func TestManifestsThatAreRefused(t *testing.T) {
	image := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `"}`)
	for name, c := range map[string]struct {
		fault upstreamtest.Fault
		body  []byte
		kind  string
		err   error
	}{
		"wrong digest header": {fault: upstreamtest.Fault{WrongDigest: digest.FromString("other").String()}},
		"digest of md5":       {fault: upstreamtest.Fault{WrongDigest: "md5:00000000000000000000000000000000"}},
		"flipped bit":         {fault: upstreamtest.Fault{Flip: true, FlipAt: 3}},

		"html":                  {fault: upstreamtest.Fault{ContentType: "text/html"}},
		"other type":            {fault: upstreamtest.Fault{ContentType: ocispec.MediaTypeImageIndex}},
		"too large, announced":  {body: append(append([]byte(`{"x":"`), bytes.Repeat([]byte("x"), upstream.MaxManifestSize)...), `"}`...)},
		"too large, unheralded": {body: append(append([]byte(`{"x":"`), bytes.Repeat([]byte("x"), upstream.MaxManifestSize)...), `"}`...), fault: upstreamtest.Fault{NoLength: true}},
		"schema 1":              {body: []byte(`{"schemaVersion":1,"fsLayers":[]}`), kind: "application/vnd.docker.distribution.manifest.v1+prettyjws", err: upstream.ErrSchema1},
		"schema 1 in disguise":  {body: []byte(`{"schemaVersion":1,"fsLayers":[]}`), err: upstream.ErrSchema1},
		"not JSON":              {body: []byte(`manifest`)},
		"image and index":       {body: []byte(`{"schemaVersion":2,"manifests":[],"layers":[]}`)},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSide(t)
			body, kind := c.body, c.kind
			if body == nil {
				body = image
			}
			if kind == "" {
				kind = ocispec.MediaTypeImageManifest
			}
			d := s.up.AddManifest("a", "v1", kind, body)
			s.up.Fail(c.fault)
			for _, ref := range []string{"v1", d.Digest.String()} {
				_, got, err := s.repo("a").Manifest(t.Context(), ref)
				s.want(err, upstream.Protocol)
				if got != nil || c.err != nil && !errors.Is(err, c.err) {
					t.Errorf("%s: %d bytes, %v", ref, len(got), err)
				}
			}
		})
	}
}

func TestManifestTypesAndDigests(t *testing.T) {
	s := newSide(t)
	r := s.repo("a")
	body := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","layers":[]}`)
	d := s.up.AddManifest("a", "v1", ocispec.MediaTypeImageManifest+"; charset=utf-8", body)
	if got, _, err := r.Manifest(t.Context(), "v1"); err != nil || got.MediaType != ocispec.MediaTypeImageManifest {
		t.Errorf("a charset: %+v, %v", got, err)
	}
	s.up.AddManifest("a", "v1", "application/json", body)
	if got, _, err := r.Manifest(t.Context(), "v1"); err != nil || got.MediaType != ocispec.MediaTypeImageManifest {
		t.Errorf("a type that says nothing: %+v, %v", got, err)
	}
	s.up.Fail(upstreamtest.Fault{NoDigest: true, Times: 1})
	if got, _, err := r.Manifest(t.Context(), "v1"); err != nil || got.Digest != d.Digest {
		t.Errorf("no digest header: %+v, %v", got, err)
	}
	long := digest.SHA512.FromBytes(body)
	s.up.Fail(upstreamtest.Fault{Do: func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
		w.Header().Set("Docker-Content-Digest", long.String())
		_, _ = w.Write(body)
	}})
	for _, ref := range []string{"v1", long.String()} {
		if got, _, err := r.Manifest(t.Context(), ref); err != nil || got.Digest != long {
			t.Errorf("%s: %+v, %v", ref, got, err)
		}
	}
	for _, ref := range []string{"", "../x", "a b", "sha256:12", "md5:00000000000000000000000000000000"} {
		if _, _, err := r.Manifest(t.Context(), ref); err == nil {
			t.Errorf("the reference %q was asked for", ref)
		}
	}
}

func TestPartsOfBlobs(t *testing.T) {
	s := newSide(t)
	data := upstreamtest.Bytes(1, 100_000)
	d := s.up.AddBlob("a", data)
	r := s.repo("a")
	for _, c := range []struct{ offset, length, n int64 }{{0, -1, 100_000}, {10, -1, 99_990}, {10, 20, 20}, {0, 1, 1}, {99_990, 50, 10}} {
		b, err := r.Blob(t.Context(), d, c.offset, c.length)
		got := s.read(b, err)
		if b.Offset != c.offset || b.Length != c.n || b.Size != 100_000 || !bytes.Equal(got, data[c.offset:c.offset+c.n]) {
			t.Errorf("%+v: %+v, %d bytes", c, b, len(got))
		}
	}
	_, err := r.Blob(t.Context(), d, 100_000, -1)
	if e := s.want(err, upstream.Protocol); e.Status != http.StatusRequestedRangeNotSatisfiable {
		t.Errorf("%+v", e)
	}
	s.up.Fail(upstreamtest.Fault{IgnoreRange: true})
	b, err := r.Blob(t.Context(), d, 10, 20)
	if got := s.read(b, err); b.Offset != 0 || b.Length != 100_000 || !bytes.Equal(got, data) {
		t.Errorf("Range ignored: %+v", b)
	}
}

func TestBlobsThatAreRefused(t *testing.T) {
	part := func(contentRange, contentType string) upstreamtest.Fault {
		return upstreamtest.Fault{Do: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", contentRange)
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("Content-Length", "20")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(make([]byte, 20))
		}}
	}
	for name, f := range map[string]upstreamtest.Fault{
		"other offset":    {ShiftRange: 5},
		"wrong length":    part("bytes 10-49/1000", ""),
		"no range":        part("", ""),
		"several pieces":  part("bytes 10-29/1000", "multipart/byteranges; boundary=x"),
		"reversed":        part("bytes 29-10/1000", ""),
		"beyond the end":  part("bytes 10-29/20", ""),
		"nothing":         {Status: http.StatusNoContent},
		"redirect to air": {Status: http.StatusTemporaryRedirect},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSide(t)
			d := s.up.AddBlob("a", upstreamtest.Bytes(1, 1000))
			s.up.Fail(f)
			_, err := s.repo("a").Blob(t.Context(), d, 10, 20)
			s.want(err, upstream.Protocol)
		})
	}
	s := newSide(t)
	s.up.Fail(part("bytes 0-19/1000", ""))
	_, err := s.repo("a").Blob(t.Context(), digest.FromString("x"), 0, -1)
	s.want(err, upstream.Protocol)
	s.up.Heal()
	s.up.Fail(upstreamtest.Fault{WrongDigest: digest.FromString("other").String()})
	d := s.up.AddBlob("a", []byte("content"))
	_, err = s.repo("a").StatBlob(t.Context(), d)
	s.want(err, upstream.Protocol)
	for _, c := range [][2]int64{{-1, 5}, {0, 0}, {0, -2}, {1 << 62, 1 << 62}} {
		if _, err := s.repo("a").Blob(t.Context(), d, c[0], c[1]); err == nil {
			t.Errorf("the range %v was asked for", c)
		}
	}
}

func TestBlobsThatEndEarlyOrLate(t *testing.T) {
	s := newSide(t)
	data := upstreamtest.Bytes(1, 100_000)
	d := s.up.AddBlob("a", data)
	r := s.repo("a")
	for name, f := range map[string]upstreamtest.Fault{"cut": {Cut: 5000}, "cut without length": {Cut: 5000, NoLength: true}, "longer announced": {WrongLength: 10}} {
		s.up.Fail(f)
		b, err := r.Blob(t.Context(), d, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, b); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v", name, err)
		}
		_ = b.Close()
		s.up.Heal()
	}
	s.up.Fail(upstreamtest.Fault{NoLength: true})
	b, err := r.Blob(t.Context(), d, 0, -1)
	if got := s.read(b, err); b.Length != -1 || b.Size != -1 || !bytes.Equal(got, data) {
		t.Errorf("no length: %+v", b)
	}
	s.up.Heal()
	s.up.Fail(upstreamtest.Fault{Do: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Range", "bytes 10-29/100000")
		w.WriteHeader(http.StatusPartialContent)
		w.(http.Flusher).Flush() // chunked: nothing but Content-Range tells the length
		_, _ = w.Write(make([]byte, 5000))
	}})
	b, err = r.Blob(t.Context(), d, 10, 20)
	if got := s.read(b, err); len(got) != 20 {
		t.Errorf("%d bytes, though 20 were announced", len(got))
	}
}

func TestTagsByPages(t *testing.T) {
	s := newSide(t)
	for i := range 5 {
		s.up.AddImage("a", fmt.Sprintf("v%d", i), nil)
	}
	l := s.repo("a").(upstream.TagLister)
	var all []string
	query, pages := map[string][]string{"n": {"2"}}, 0
	for ; query != nil && pages < 9; pages++ {
		p, err := l.Tags(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		all, query = append(all, p.Tags...), p.Next
	}
	if fmt.Sprint(all) != "[v0 v1 v2 v3 v4]" || pages != 3 {
		t.Errorf("%v in %d pages", all, pages)
	}
	s.up.Fail(upstreamtest.Fault{Do: func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(append([]byte(`{"tags":["`), bytes.Repeat([]byte("x"), 5<<20)...))
	}})
	_, err := l.Tags(t.Context(), nil)
	s.want(err, upstream.Protocol)
}

func TestReferrersWithAndWithoutTheAPI(t *testing.T) {
	for _, without := range []string{"", "api", "type"} {
		t.Run(without, func(t *testing.T) {
			s := newSide(t)
			img := s.up.AddImage("a", "v1", nil)
			sbom := s.up.AddArtifact("a", "", "application/sbom", img, []byte("sbom"))
			s.up.AddArtifact("a", "", "application/signature", img, []byte("signature"))
			switch without {
			case "api":
				s.up.NoReferrers()
			case "type":
				s.up.Fail(upstreamtest.Fault{Kind: "referrers", ContentType: ocispec.MediaTypeImageIndex + "; charset=utf-8"})
			}
			l := s.repo("a").(upstream.ReferrerLister)
			p, err := l.Referrers(t.Context(), img.Digest, nil)
			if err != nil || len(p.Manifests) != 2 {
				t.Fatalf("%+v, %v", p, err)
			}
			p, err = l.Referrers(t.Context(), img.Digest, map[string][]string{"artifactType": {"application/sbom"}})
			if err != nil || len(p.Manifests) != 1 || p.Manifests[0].Digest != sbom.Digest || p.FiltersApplied != "artifactType" {
				t.Fatalf("filtered: %+v, %v", p, err)
			}
			p, err = l.Referrers(t.Context(), digest.FromString("nobody"), nil)
			if err != nil || len(p.Manifests) != 0 {
				t.Errorf("none: %+v, %v", p, err)
			}
		})
	}
}
