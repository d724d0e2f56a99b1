package route

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
)

const sum = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestParse(t *testing.T) {
	for path, want := range map[string]Request{
		"/v2":                                              {Kind: Ping},
		"/v2/":                                             {Kind: Ping},
		"/v2/_catalog":                                     {Kind: Catalog},
		"/v2/a/manifests/v1":                               {Kind: Manifest, Repository: "a", Reference: "v1"},
		"/v2/a/b/c/manifests/v1":                           {Kind: Manifest, Repository: "a/b/c", Reference: "v1"},
		"/v2/a/manifests/b/manifests/v1":                   {Kind: Manifest, Repository: "a/manifests/b", Reference: "v1"},
		"/v2/a/manifests/sha256:" + sum:                    {Kind: Manifest, Repository: "a", Reference: "sha256:" + sum, Digest: "sha256:" + sum},
		"/v2/a/blobs/sha256:" + sum:                        {Kind: Blob, Repository: "a", Reference: "sha256:" + sum, Digest: "sha256:" + sum},
		"/v2/blobs/blobs/sha256:" + sum:                    {Kind: Blob, Repository: "blobs", Reference: "sha256:" + sum, Digest: "sha256:" + sum},
		"/v2/a/tags/list":                                  {Kind: Tags, Repository: "a"},
		"/v2/a/tags/tags/list":                             {Kind: Tags, Repository: "a/tags"},
		"/v2/a/referrers/sha256:" + sum:                    {Kind: Referrers, Repository: "a", Reference: "sha256:" + sum, Digest: "sha256:" + sum},
		"/v2/a/blobs/uploads/":                             {Kind: Upload, Repository: "a"},
		"/v2/a/blobs/uploads":                              {Kind: Upload, Repository: "a"},
		"/v2/a/blobs/uploads/1-2-3":                        {Kind: Upload, Repository: "a"},
		"/v2/a/blobs/sha512:" + sum + sum:                  {Kind: Blob, Repository: "a", Reference: "sha512:" + sum + sum, Digest: "sha512:" + sum + sum},
		"/v2/a/manifests/V1_.-" + strings.Repeat("x", 100): {Kind: Manifest, Repository: "a", Reference: "V1_.-" + strings.Repeat("x", 100)},
	} {
		u, err := url.Parse(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(u)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", path, got, err, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for path, want := range map[string]error{
		"/":                      ErrPath,
		"/v1/":                   ErrPath,
		"/v2x/a/tags/list":       ErrPath,
		"/v2/a":                  ErrPath,
		"/v2/a/tags/other":       ErrPath,
		"/v2/A/manifests/v1":     ErrName,
		"/v2//manifests/v1":      ErrName,
		"/v2/a//b/manifests/v1":  ErrName,
		"/v2/../a/manifests/v1":  ErrName,
		"/v2/a%2Fb/manifests/v1": ErrName,
		"/v2/_a/manifests/v1":    ErrName,
		"/v2/" + strings.Repeat("a", 256) + "/manifests/v1": ErrName,
		"/v2/a/manifests/":                               ErrTag,
		"/v2/a/manifests/.v1":                            ErrTag,
		"/v2/a/manifests/" + strings.Repeat("x", 129):    ErrTag,
		"/v2/a/manifests/sha256:xyz":                     ErrDigest,
		"/v2/a/manifests/sha256:" + strings.ToUpper(sum): ErrDigest,
		"/v2/a/blobs/v1":                                 ErrDigest,
		"/v2/a/blobs/sha384:" + sum:                      ErrDigest,
		"/v2/a/referrers/v1":                             ErrDigest,
	} {
		u, err := url.Parse(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(u); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
}

func TestParseRange(t *testing.T) {
	for _, c := range []struct {
		header string
		size   int64
		want   []Range
		err    error
	}{
		{"bytes=0-", 10, []Range{{0, 10}}, nil},
		{"bytes=0-0", 10, []Range{{0, 1}}, nil},
		{"bytes=2-5", 10, []Range{{2, 4}}, nil},
		{"bytes=2-99", 10, []Range{{2, 8}}, nil},
		{"bytes=-3", 10, []Range{{7, 3}}, nil},
		{"bytes=-30", 10, []Range{{0, 10}}, nil},
		{"bytes=0-1, 8-9", 10, []Range{{0, 2}, {8, 2}}, nil},
		{"bytes=0-1,50-60", 10, []Range{{0, 2}}, nil},
		{"bytes=10-", 10, nil, ErrUnsatisfiable},
		{"bytes=-0", 10, nil, ErrUnsatisfiable},
		{"bytes=99999999999999999999-", 10, nil, ErrUnsatisfiable},
		{"bytes=0-", 0, nil, ErrUnsatisfiable},
		{"bytes=5-2", 10, nil, ErrRange},
		{"bytes=", 10, nil, ErrRange},
		{"bytes=a-b", 10, nil, ErrRange},
		{"bytes=+1-2", 10, nil, ErrRange},
		{"items=0-1", 10, nil, ErrRange},
		{"bytes=0-9,0-9", 10, nil, ErrRange},
		{"bytes=" + strings.Repeat("0-0,", 70), 1000, nil, ErrRange},
	} {
		got, err := ParseRange(c.header, c.size)
		if !slices.Equal(got, c.want) || !errors.Is(err, c.err) {
			t.Errorf("%s of %d: %v, %v; want %v, %v", c.header, c.size, got, err, c.want, c.err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"/v2/a/manifests/v1", "/v2/a/blobs/sha256:" + sum, "/v2/a/tags/list", "/v2/%2e%2e/tags/list", "/v2//"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		u, err := url.Parse(path)
		if err != nil {
			return
		}
		r, err := Parse(u)
		if err != nil {
			return
		}
		if r.Repository != "" && (strings.Contains(r.Repository, "..") || strings.ContainsAny(r.Repository, "%\\\x00") || strings.Contains(r.Repository, "//")) {
			t.Fatalf("%q gives the repository %q", path, r.Repository)
		}
		if r.Digest != "" && r.Digest.Validate() != nil {
			t.Fatalf("%q gives the digest %q", path, r.Digest)
		}
	})
}

func FuzzParseRange(f *testing.F) {
	f.Add("bytes=0-1,5-", int64(10))
	f.Add("bytes=-5", int64(3))
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 0 {
			return
		}
		ranges, err := ParseRange(header, size)
		if (err == nil) != (len(ranges) > 0) {
			t.Fatalf("%q of %d: %v, %v", header, size, ranges, err)
		}
		for _, r := range ranges {
			if r.Start < 0 || r.Length <= 0 || r.Start+r.Length > size {
				t.Fatalf("%q of %d: %v", header, size, r)
			}
		}
	})
}
