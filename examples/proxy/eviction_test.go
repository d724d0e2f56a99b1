package main

import (
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// configFile writes a file and returns its name.
func configFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestEvictionKeys(t *testing.T) {
	const rules = "rules:\n  - {name: a, source: r.example/*, target: a/*, maxBytes: 1.5GiB}\n  - {name: b, source: s.example/*, target: b/*}\n"
	s, err := build(configFile(t, "eviction: {maxBytes: 2TB, minFree: 10MiB, maxAge: 720h, keep: [base/*, \"*:v1\"]}\n"+rules))
	if err != nil {
		t.Fatal(err)
	}
	v := s.eviction()
	if v.MaxBytes != 2e12 || v.MinFree != 10<<20 || v.MaxAge != 720*time.Hour || !slices.Equal(v.Keep, []string{"base/*", "*:v1"}) ||
		!maps.Equal(v.Rules, map[string]int64{"a": 3 << 29}) {
		t.Errorf("%+v", v)
	}
	for text, want := range map[string]int64{"": 0, "store: dir:x\n": defaultMinFree, "store: dir:x\neviction: {minFree: 0}\n": 0, "store: dir:x\neviction: {minFree: 5}\n": 5} {
		s, err := build(configFile(t, text+rules))
		if err != nil {
			t.Fatal(err)
		}
		if v := s.eviction(); v.MinFree != want {
			t.Errorf("%q: MinFree is %d, want %d", text, v.MinFree, want)
		}
	}
	for text, want := range map[string]string{
		"eviction: {maxBytes: many}\n":   `1: eviction.maxBytes: "many" is not a number of bytes`,
		"eviction: {maxBytes: -1}\n":     `"-1" is not a number of bytes`,
		"eviction: {minFree: 9e30TiB}\n": `"9e30TiB" is not a number of bytes`,
		"eviction: {minFree: NaN}\n":     `"NaN" is not a number of bytes`,
		"eviction: {keep: [\"a:\"]}\n":   `"a:": REPOSITORY or REPOSITORY:TAG is expected`,
		"eviction: {maxAge: -1h}\n":      "maxAge",
	} {
		if _, err := build(configFile(t, text+rules)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// TestEvicting: of two images for which there is no room, a proxy keeps one.
func TestEvicting(t *testing.T) {
	up, dir := upstreamtest.NewRegistry(t), t.TempDir()
	p := startProxy(t, file(up, "store: dir:"+dir, "eviction: {maxBytes: 1500KiB}"))
	pull := func(img upstreamtest.Image, tag string) {
		t.Helper()
		for _, path := range []string{"manifests/" + tag, "blobs/" + img.Config.Digest.String(), "blobs/" + img.Layers[0].Digest.String()} {
			if status, _ := fetch(t, http.DefaultClient, p.url+"/v2/local/team/app/"+path); status != 200 {
				t.Errorf("%s: status %d", path, status)
			}
		}
	}
	stored := func(tag string) bool { return tagStored(t, dir, "local/team/app", tag) }
	one := up.AddImage("team/app", "one", upstreamtest.Layers(1, 1<<20))
	pull(one, "one")
	p.until(t, "the first tag to be stored", func() bool { return stored("one") })
	two := up.AddImage("team/app", "two", upstreamtest.Layers(1, 1<<20+1))
	pull(two, "two")
	p.until(t, "one of the tags to be evicted", func() bool {
		return strings.Contains(p.log.String(), "images were evicted") && stored("one") != stored("two")
	})
	pull(one, "one")
	pull(two, "two")
}
