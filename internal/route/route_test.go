package route

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

var (
	hex64 = strings.Repeat("0123456789abcdef", 4)
	d256  = "sha256:" + hex64
	d512  = "sha512:" + hex64 + hex64
)

// parse reads a path as net/http does.
func parse(t testing.TB, path string) (Request, error) {
	t.Helper()
	u, err := url.ParseRequestURI(path)
	if err != nil {
		t.Fatal(err)
	}
	return Parse(u)
}

func TestParse(t *testing.T) {
	long := strings.Repeat("a", MaxName)
	for path, want := range map[string]Request{
		"/v2":                                 {Kind: Ping},
		"/v2/":                                {Kind: Ping},
		"/v2/?x=y":                            {Kind: Ping},
		"/v2/_catalog":                        {Kind: Catalog},
		"/v2/_catalog?n=5":                    {Kind: Catalog},
		"/v2/a/manifests/v1":                  {Kind: Manifest, Repository: "a", Reference: "v1"},
		"/v2/a/b-c_d.e/f/manifests/V1.0_x-y":  {Kind: Manifest, Repository: "a/b-c_d.e/f", Reference: "V1.0_x-y"},
		"/v2/a/manifests/" + d256:             {Kind: Manifest, Repository: "a", Reference: d256, Digest: digest.Digest(d256)},
		"/v2/a/manifests/" + d512:             {Kind: Manifest, Repository: "a", Reference: d512, Digest: digest.Digest(d512)},
		"/v2/a/manifests/sha256%3A" + hex64:   {Kind: Manifest, Repository: "a", Reference: d256, Digest: digest.Digest(d256)},
		"/v2/%61/manifests/v1":                {Kind: Manifest, Repository: "a", Reference: "v1"},
		"/v2/a/manifests/sha256-" + hex64:     {Kind: Manifest, Repository: "a", Reference: "sha256-" + hex64},
		"/v2/" + long + "/manifests/v1":       {Kind: Manifest, Repository: long, Reference: "v1"},
		"/v2/a/manifests/" + long[:128]:       {Kind: Manifest, Repository: "a", Reference: long[:128]},
		"/v2/a/blobs/" + d256:                 {Kind: Blob, Repository: "a", Reference: d256, Digest: digest.Digest(d256)},
		"/v2/a/blobs/" + d512:                 {Kind: Blob, Repository: "a", Reference: d512, Digest: digest.Digest(d512)},
		"/v2/a/referrers/" + d256:             {Kind: Referrers, Repository: "a", Reference: d256, Digest: digest.Digest(d256)},
		"/v2/a/tags/list":                     {Kind: Tags, Repository: "a"},
		"/v2/a/b/tags/list?n=3&last=x":        {Kind: Tags, Repository: "a/b"},
		"/v2/a/blobs/uploads/":                {Kind: Upload, Repository: "a"},
		"/v2/a/blobs/uploads":                 {Kind: Upload, Repository: "a"},
		"/v2/a/blobs/uploads/1b2c":            {Kind: Upload, Repository: "a"},
		"/v2/a/blobs/uploads/manifests":       {Kind: Upload, Repository: "a"},
		"/v2/a/manifests/b/manifests/v1":      {Kind: Manifest, Repository: "a/manifests/b", Reference: "v1"},
		"/v2/manifests/manifests/manifests":   {Kind: Manifest, Repository: "manifests", Reference: "manifests"},
		"/v2/blobs/blobs/" + d256:             {Kind: Blob, Repository: "blobs", Reference: d256, Digest: digest.Digest(d256)},
		"/v2/a/blobs/" + hex64 + "/tags/list": {Kind: Tags, Repository: "a/blobs/" + hex64},
		"/v2/tags/tags/list":                  {Kind: Tags, Repository: "tags"},
		"/v2/tags/list/tags/list":             {Kind: Tags, Repository: "tags/list"},
		"/v2/a/tags/manifests/list":           {Kind: Manifest, Repository: "a/tags", Reference: "list"},
		"/v2/a/tags/list/manifests/v1":        {Kind: Manifest, Repository: "a/tags/list", Reference: "v1"},
		"/v2/a/blobs/uploads/manifests/v1":    {Kind: Manifest, Repository: "a/blobs/uploads", Reference: "v1"},
		"/v2/a/blobs/uploads/blobs/" + d256:   {Kind: Blob, Repository: "a/blobs/uploads", Reference: d256, Digest: digest.Digest(d256)},
		"/v2/blobs/uploads/blobs/uploads/":    {Kind: Upload, Repository: "blobs/uploads"},
		"/v2/v2/v2/manifests/v2":              {Kind: Manifest, Repository: "v2/v2", Reference: "v2"},
	} {
		got, err := parse(t, path)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", path, got, err, want)
		}
	}
}

func TestParseFaults(t *testing.T) {
	type fault struct {
		kind Kind
		err  error
	}
	name, dig, tag, path := ErrName, ErrDigest, ErrTag, ErrPath
	for p, want := range map[string]fault{
		"/":                           {Unknown, path},
		"/v1/":                        {Unknown, path},
		"/v2x/a/manifests/v1":         {Unknown, path},
		"/v3/a/manifests/v1":          {Unknown, path},
		"/V2/":                        {Unknown, path},
		"/v2//":                       {Unknown, path},
		"/v2/a":                       {Unknown, path},
		"/v2/a/b":                     {Unknown, path},
		"/v2/_catalog/":               {Unknown, path},
		"/v2/a/tags":                  {Unknown, path},
		"/v2/a/tags/list/":            {Unknown, path},
		"/v2/a/tags/list/more":        {Unknown, path},
		"/v2/a/xtags/list":            {Unknown, path},
		"/v2/atags/list":              {Unknown, path},
		"/v2/a/xblobs/uploads":        {Unknown, path},
		"/v2/a/manifests/v1/":         {Unknown, path},
		"/v2/a/manifests/v1/v2":       {Unknown, path},
		"/v2/a/blobs/uploads/x/y":     {Unknown, path},
		"/v2/a/Manifests/v1":          {Unknown, path},
		"/v2/a/manifests":             {Unknown, path},
		"/v2/a%2Fb/manifests/v1":      {Unknown, path},
		"/v2/a%2fb/manifests/v1":      {Unknown, path},
		"/v2/a/manifests%2Fv1":        {Unknown, path},
		"/v2/a%21%2Fb/manifests/v1":   {Unknown, path},
		"/v2/manifests/v1":            {Manifest, name},
		"/v2/tags/list":               {Tags, name},
		"/v2/blobs/uploads/":          {Upload, name},
		"/v2/blobs/" + d256:           {Blob, name},
		"/v2//manifests/v1":           {Manifest, name},
		"/v2/a//b/manifests/v1":       {Manifest, name},
		"/v2/a//manifests/v1":         {Manifest, name},
		"/v2//a/manifests/v1":         {Manifest, name},
		"/v2/../manifests/v1":         {Manifest, name},
		"/v2/a/../b/manifests/v1":     {Manifest, name},
		"/v2/a/%2e%2e/b/manifests/v1": {Manifest, name},
		"/v2/./a/manifests/v1":        {Manifest, name},
		"/v2/A/manifests/v1":          {Manifest, name},
		"/v2/a%20b/manifests/v1":      {Manifest, name},
		"/v2/a%252Fb/manifests/v1":    {Manifest, name},
		"/v2/a%5Cb/manifests/v1":      {Manifest, name},
		"/v2/a%00/manifests/v1":       {Manifest, name},
		"/v2/_x/manifests/v1":         {Manifest, name},
		"/v2/a:b/tags/list":           {Tags, name},
		"/v2/" + strings.Repeat("a", 256) + "/tags/list": {Tags, name},
		"/v2/a/manifests/":                                 {Manifest, tag},
		"/v2/a/manifests/.":                                {Manifest, tag},
		"/v2/a/manifests/..":                               {Manifest, tag},
		"/v2/a/manifests/-v":                               {Manifest, tag},
		"/v2/a/manifests/v@1":                              {Manifest, tag},
		"/v2/a/manifests/v%0A":                             {Manifest, tag},
		"/v2/a/manifests/" + strings.Repeat("a", 129):      {Manifest, tag},
		"/v2/a/manifests/v:1":                              {Manifest, dig},
		"/v2/a/manifests/sha256:":                          {Manifest, dig},
		"/v2/a/manifests/sha256:" + hex64[1:]:              {Manifest, dig},
		"/v2/a/manifests/sha256:" + hex64 + "0":            {Manifest, dig},
		"/v2/a/manifests/sha512:" + hex64:                  {Manifest, dig},
		"/v2/a/manifests/sha256:" + strings.ToUpper(hex64): {Manifest, dig},
		"/v2/a/manifests/SHA256:" + hex64:                  {Manifest, dig},
		"/v2/a/manifests/sha384:" + hex64 + hex64[:32]:     {Manifest, dig},
		"/v2/a/manifests/md5:" + hex64[:32]:                {Manifest, dig},
		"/v2/a/manifests/sha256:" + hex64[:63] + "g":       {Manifest, dig},
		"/v2/a/blobs/":                                     {Blob, dig},
		"/v2/a/blobs/v1":                                   {Blob, dig},
		"/v2/a/blobs/" + hex64:                             {Blob, dig},
		"/v2/a/referrers/v1":                               {Referrers, dig},
	} {
		got, err := parse(t, p)
		if !errors.Is(err, want.err) || got.Kind != want.kind || got.Digest != "" {
			t.Errorf("%s: %+v, %v, want kind %d, %v", p, got, err, want.kind, want.err)
		}
		if known := want.err == dig || want.err == tag; known != (got.Repository == "a") {
			t.Errorf("%s: repository %q", p, got.Repository)
		}
	}
}

func TestParseDoesNotAllocate(t *testing.T) {
	for _, path := range []string{"/v2/team/app/manifests/v1", "/v2/team/app/blobs/" + d256, "/v2/team/app/tags/list"} {
		u, err := url.ParseRequestURI(path)
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() { _, _ = Parse(u) }); n != 0 && !raceEnabled {
			t.Errorf("%s: %v allocations", path, n)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	u, _ := url.ParseRequestURI("/v2/promoted/team-a/api/manifests/" + d256)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = Parse(u)
	}
}

func FuzzParse(f *testing.F) {
	for _, p := range []string{
		"/v2/", "/v2/_catalog", "/v2/a/manifests/v1", "/v2/a/manifests/b/manifests/v1", "/v2/a/blobs/" + d256, "/v2/a/tags/list",
		"/v2/a/referrers/" + d512, "/v2/a/blobs/uploads/x", "/v2/a%2Fb/tags/list", "/v2/%2e%2e/a/tags/list", "/v2//a/manifests/..",
	} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, path string) {
		u, err := url.ParseRequestURI(path)
		if err != nil {
			return
		}
		r, err := Parse(u)
		if r.Repository != "" && !ValidName(r.Repository) {
			t.Fatalf("%q: repository %q", path, r.Repository)
		}
		if r.Digest != "" && (r.Digest.Validate() != nil || err != nil) {
			t.Fatalf("%q: digest %q, %v", path, r.Digest, err)
		}
		if err != nil {
			return
		}
		if back := build(r); r.Kind != Upload && back != u.Path && back != u.Path+"/" {
			t.Fatalf("%q read as %+v, which is %q", path, r, back)
		}
		if r.Kind == Unknown {
			t.Fatalf("%q: no kind and no error", path)
		}
	})
}

// build is the inverse of Parse.
func build(r Request) string {
	switch r.Kind {
	case Ping:
		return "/v2/"
	case Catalog:
		return "/v2/_catalog"
	case Tags:
		return "/v2/" + r.Repository + "/tags/list"
	}
	return "/v2/" + r.Repository + "/" + map[Kind]string{Manifest: "manifests", Blob: "blobs", Referrers: "referrers"}[r.Kind] + "/" + r.Reference
}
