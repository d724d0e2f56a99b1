package oci

import (
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestCheckPlatforms(t *testing.T) {
	for list, good := range map[string]bool{
		"": true, "all": true, "pulled": true, "linux/amd64": true, "linux/arm/v7 linux/arm64": true, "windows/amd64": true, "linux/mips64le": true,
		"linux": false, "all linux/amd64": false, "linux/amd64 pulled": false, "linux/": false, "/amd64": false, "linux/amd64/v2/x": false,
		"Linux/amd64": false, "linux/amd64/": false, "all all": false, "*": false,
	} {
		if err := CheckPlatforms(strings.Fields(list)); (err == nil) != good {
			t.Errorf("%q: %v", list, err)
		}
	}
}

func TestMergePlatforms(t *testing.T) {
	for _, c := range []struct{ a, b, want string }{
		{"", "", ""}, {"", "all", "all"}, {"all", "", "all"}, {"pulled", "linux/arm64", "linux/arm64"}, {"linux/arm64", "pulled", "linux/arm64"},
		{"linux/arm64", "all", "all"}, {"all", "linux/arm64", "all"}, {"linux/arm64", "linux/arm64 linux/amd64", "linux/arm64 linux/amd64"},
	} {
		a := strings.Fields(c.a)
		if got := MergePlatforms(a, strings.Fields(c.b)); strings.Join(got, " ") != c.want || strings.Join(a, " ") != c.a {
			t.Errorf("%q and %q: %q, want %q", c.a, c.b, got, c.want)
		}
	}
}

func TestSelect(t *testing.T) {
	child := func(name string, p *ocispec.Platform) ocispec.Descriptor {
		return ocispec.Descriptor{Digest: digest.FromString(name), Platform: p}
	}
	of := func(name string) ocispec.Descriptor {
		d := child("attestation of "+name, &ocispec.Platform{OS: "unknown", Architecture: "unknown"})
		d.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": digest.FromString(name).String()}
		return d
	}
	m := &Manifest{Index: true, Manifests: []ocispec.Descriptor{
		child("amd", &ocispec.Platform{OS: "linux", Architecture: "amd64"}), of("amd"),
		child("v6", &ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v6"}), of("v6"),
		child("v7", &ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}),
		child("windows", &ocispec.Platform{OS: "windows", Architecture: "amd64"}),
		child("none", nil),
	}}
	names := map[digest.Digest]string{}
	for _, name := range []string{"amd", "v6", "v7", "windows", "none", "attestation of amd", "attestation of v6"} {
		names[digest.FromString(name)] = name
	}
	for list, want := range map[string]string{
		"": "", "pulled": "", "all": "amd,attestation of amd,attestation of v6,none,v6,v7,windows",
		"linux/amd64": "amd,attestation of amd", "linux/arm": "attestation of v6,v6,v7", "linux/arm/v7": "v7", "linux/arm/v6 windows/amd64": "attestation of v6,v6,windows", "linux/s390x": "",
	} {
		var got []string
		for _, d := range m.Select(strings.Fields(list)) {
			got = append(got, names[d.Digest])
		}
		slices.Sort(got)
		if strings.Join(got, ",") != want {
			t.Errorf("%q: %v, want %s", list, got, want)
		}
	}
	if PlatformName(m.Manifests[2].Platform) != "linux/arm/v6" || PlatformName(nil) != "" {
		t.Error("the name of a platform")
	}
}
