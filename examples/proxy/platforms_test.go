package main

import (
	"testing"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook"
	"github.com/pullthrough/pullthrough/webhook/webhooktest"
)

// TestPlatforms: after a reload of the rule, one pull of one platform copies all of them, and
// the artifacts that refer to them. A new webhook would need a restart.
func TestPlatforms(t *testing.T) {
	up, hook := upstreamtest.NewRegistry(t), webhooktest.New(t)
	former := up.AddMultiPlatform("team/app", "v1", upstreamtest.Layers(2, 1000), "amd64", "arm64")
	index := up.AddMultiPlatform("team/app", "v2", upstreamtest.Layers(2, 2000), "amd64", "arm64", "riscv64")
	sbom := up.AddArtifact("team/app", "", "application/spdx+json", index, []byte(`{"spdxVersion": "SPDX-2.3"}`))
	base := withHooks(up, "mem", hook.URL())
	p := startProxy(t, base)
	pull(t, p, up, "v1", former, "amd64")
	want := threeOf(former, "v1", 0)
	wantEvents(t, hook, want...)

	p.reload(t, withHooks(up, "mem", hook.URL()+"/other")+"    platforms: all\n", `needs a restart; what was read before stays in force" keys=webhooks`)
	p.reload(t, base+"    platforms: all\n    referrers: true\n", reloaded+"1 rule, 0 credential sets, 1 webhook, ")
	pull(t, p, up, "v2", index, "amd64")
	want = append(want, append(threeOf(index, "v2", 0), []webhook.Target{target(index.Children[1], ""), target(index.Children[2], ""), target(sbom, "")}...)...)
	wantEvents(t, hook, want...)

	up.Stop()
	for _, arch := range []string{"amd64", "arm64", "riscv64"} {
		pull(t, p, up, "v2", index, arch)
	}
	repository := p.url + "/v2/local/team/app"
	for path, status := range map[string]int{
		"/manifests/" + sbom.Digest.String():               200,
		"/blobs/" + sbom.Layers[0].Digest.String():         200,
		"/manifests/" + former.Children[0].Digest.String(): 200,
		"/manifests/" + former.Children[1].Digest.String(): 502, // no client pulled it
	} {
		if got, body := fetch(t, client(), repository+path); got != status {
			t.Errorf("%s: status %d, want %d: %s", path, got, status, body)
		}
	}
	p.signal(t)
	p.wantExit(t, exitOK)
	wantEvents(t, hook, want...)
}

// TestSomePlatforms: the platforms of a list are copied, others are not.
func TestSomePlatforms(t *testing.T) {
	up, hook := upstreamtest.NewRegistry(t), webhooktest.New(t)
	index := up.AddMultiPlatform("team/app", "v1", upstreamtest.Layers(2, 1000), "amd64", "arm64", "riscv64")
	p := startProxy(t, withHooks(up, "mem", hook.URL())+"    platforms: [linux/arm64, linux/s390x]\n")
	pull(t, p, up, "v1", index, "amd64")
	wantEvents(t, hook, append(threeOf(index, "v1", 0), target(index.Children[1], ""))...)
	p.signal(t)
	p.wantExit(t, exitOK)
	if n := len(hook.Deliveries()); n != 4 {
		t.Errorf("%d deliveries, want 4", n)
	}
	if n := up.Count("GET", "manifest", index.Children[2].Digest.String()); n != 0 {
		t.Errorf("a platform that nobody wants was asked for %d times", n)
	}
}
