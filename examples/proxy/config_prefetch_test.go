package main

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/examples/proxy/prefetch"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// list is a file with a prefetch list whose keys begin in line 6.
func list(keys string) string { return rules("") + "prefetch:\n  - " + keys + "\n" }

// TestPrefetchMistakes has a row for each mistake of a prefetch list.
func TestPrefetchMistakes(t *testing.T) {
	for _, test := range []struct{ name, file, want string }{
		{"no images", list("every: 24h"), "6: prefetch[0]: image or images is missing"},
		{"empty images", list("images: []"), "6: prefetch[0].images: is empty"},
		{"both", list("image: hub/library/a\n    images: [hub/library/b]"), "6: prefetch[0].image: excludes images"},
		{"no name", list("image: hub/Library/a"), `6: prefetch[0].image: "hub/Library/a" is not REPOSITORY:TAG`},
		{"no tag", list("image: 'hub/library/a:-x'"), `6: prefetch[0].image: "hub/library/a:-x" is not REPOSITORY:TAG`},
		{"no digest", list("image: hub/library/a@sha256:1"), `6: prefetch[0].image: "hub/library/a@sha256:1" is not`},
		{"tag and digest", list("image: hub/library/a:v1@sha256:" + strings.Repeat("a", 64)), "6: prefetch[0].image: "},
		{"one of several", list("images:\n    - hub/library/a:v1\n    - hub/library/b:"), "8: prefetch[0].images[1]: "},
		{"no rule", list("image: quay/library/a:v1"), `6: prefetch[0].image: no rule covers "quay/library/a"`},
		{"platform", list("image: hub/library/a\n    platforms: [linux/amd64, amd64]"), `7: prefetch[0].platforms[1]: "amd64" is neither "all", "pulled" nor OS/ARCHITECTURE`},
		{"time", list("image: hub/library/a\n    at: 3am"), `7: prefetch[0].at: "3am" is not a time of day such as 03:00`},
		{"hour", list("image: hub/library/a\n    at: '24:00'"), `7: prefetch[0].at: "24:00" is not a time of day`},
		{"two schedules", list("image: hub/library/a\n    every: 24h\n    at: 03:00"), "8: prefetch[0].at: excludes every"},
		{"too often", list("image: hub/library/a\n    every: 10s"), "7: prefetch[0].every: must be at least 1m0s"},
		{"never", list("image: hub/library/a\n    every: 0s"), "7: prefetch[0].every: must be at least 1m0s"},
		{"back", list("image: hub/library/a\n    every: -24h"), "7: prefetch[0].every: must not be negative"},
		{"jitter alone", list("image: hub/library/a\n    jitter: 1h"), "7: prefetch[0].jitter: makes no sense without every or at"},
		{"long jitter", list("image: hub/library/a\n    every: 1h\n    jitter: 1h"), "8: prefetch[0].jitter: must be shorter"},
		{"jitter of a day", list("image: hub/library/a\n    at: 03:00\n    jitter: 24h"), "8: prefetch[0].jitter: must be shorter"},
		{"misspelt", list("image: hub/library/a\n    evry: 1h"), "7: prefetch[0].evry: unknown key; did you mean every?"},
		{"a text", list("hub/library/a:v1"), "6: prefetch[0]: wants keys with values, not a single value"},
	} {
		t.Run(test.name, func(t *testing.T) { wantMistake(t, test.file, test.want) })
	}
}

// TestPrefetchIsRead: what the file leaves out follows from the rule and from the schedule.
func TestPrefetchIsRead(t *testing.T) {
	t.Chdir(t.TempDir())
	s := built(t, rules("    platforms: [linux/arm64]\n")+"  - {name: quay, source: quay.io/*, target: quay/*, platforms: pulled}\nprefetch:\n"+
		"  - {image: hub/library/a, every: 10h}\n  - {images: [quay/b:v1, \"quay/c@sha256:"+strings.Repeat("a", 64)+"\"], at: 03:00}\n"+
		"  - {image: quay/d:v2, platforms: [linux/amd64], every: 24h, jitter: 0s}\n")
	want := []prefetch.Task{
		{Images: []prefetch.Image{{Repository: "hub/library/a", Reference: "latest", Platforms: []string{"linux/arm64"}}}, Schedule: prefetch.Every(10 * time.Hour), Jitter: time.Hour},
		{Images: []prefetch.Image{{Repository: "quay/b", Reference: "v1"}, {Repository: "quay/c", Reference: "sha256:" + strings.Repeat("a", 64)}}, Schedule: prefetch.Daily{Hour: 3}, Jitter: 10 * time.Minute},
		{Images: []prefetch.Image{{Repository: "quay/d", Reference: "v2", Platforms: []string{"linux/amd64"}}}, Schedule: prefetch.Every(24 * time.Hour)},
	}
	if !reflect.DeepEqual(s.prefetch, want) {
		t.Errorf("got %#v\nwant %#v", s.prefetch, want)
	}
}

// TestPrefetch: the list is copied at the start without holding it up, a reload changes it,
// and the end does not wait for it.
func TestPrefetch(t *testing.T) {
	up, dir := upstreamtest.NewRegistry(t), t.TempDir()
	up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1000))
	up.AddImage("team/app", "v2", upstreamtest.Layers(1, 2000))
	up.AddImage("team/slow", "v1", upstreamtest.Layers(1, 3000))
	up.Fail(upstreamtest.Fault{Kind: "manifest", Reference: "v1", Repository: "team/slow", Hang: true})
	config := func(images string) string {
		return file(up, "store: dir:"+dir) + "prefetch:\n  - images: [" + images + "]\n    every: 24h\n"
	}
	p := startProxy(t, config("local/team/app:v1, local/team/slow:v1, local/team/none:v1"))
	said := func(words string) {
		t.Helper()
		p.until(t, fmt.Sprintf("%q in the log", words), func() bool { return strings.Contains(p.log.String(), words) })
	}
	said("msg=prefetched image=local/team/app:v1 ")
	said(`msg="not prefetched; it is tried at the next time of its list" image=local/team/none:v1 `)
	p.until(t, "the tag to be stored", func() bool { return tagStored(t, dir, "local/team/app", "v1") })
	if status, body := fetch(t, client(), p.url+"/v2/"); status != 200 {
		t.Errorf("status %d while the list is copied: %s", status, body)
	}
	p.reload(t, config("local/team/app:v2, local/team/slow:v1"), `msg=prefetched image=local/team/app:v2 `)
	begun := len(p.log.String())
	p.signal(t)
	p.wantExit(t, exitOK)
	if log := p.log.String()[begun:]; strings.Contains(log, "prefetched") || strings.Contains(log, "cut off") {
		t.Errorf("the end is no failure of an image:\n%s", log)
	}
	up.Heal()
}
