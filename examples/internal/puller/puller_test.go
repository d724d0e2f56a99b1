package puller_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/examples/internal/puller"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

func TestPull(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	img := up.AddMultiPlatform("team/app", "v1", upstreamtest.Layers(2, 1000), "amd64", "arm64")
	c := puller.New(up.URL())
	defer c.HTTP.CloseIdleConnections()
	var seen strings.Builder
	c.Seen = &seen
	answered, begun := 0, 0
	c.Answered = func(puller.Answer) { answered++ }
	p, err := c.Pull(t.Context(), "team/app", "v1", "arm64", func() { begun++ })
	if err != nil {
		t.Fatal(err)
	}
	arm := img.Children[1]
	if p.Index != img.Digest || len(p.Answers) != 5 || answered != 5 || begun != 1 || p.Blobs() != 2000+arm.Config.Size {
		t.Errorf("%+v; %d answers, begun %d times", p, answered, begun)
	}
	if !strings.Contains(seen.String(), string(arm.Manifest)) || !strings.Contains(seen.String(), "200 OK") {
		t.Errorf("not everything was seen: %q", seen.String())
	}
	at := "/v2/team/app/"
	up.WantRequests("GET "+at+"manifests/v1", "GET "+at+"manifests/"+arm.Digest.String(), "GET "+at+"blobs/"+arm.Config.Digest.String(),
		"GET "+at+"blobs/"+arm.Layers[0].Digest.String(), "GET "+at+"blobs/"+arm.Layers[1].Digest.String())
}

func TestErrors(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	up.AddMultiPlatform("team/app", "v1", upstreamtest.Layers(2, 1000), "amd64")
	c := puller.New(up.URL())
	defer c.HTTP.CloseIdleConnections()
	if _, err := c.Pull(t.Context(), "team/app", "v1", "riscv64", nil); err == nil || !strings.Contains(err.Error(), "no image for riscv64") {
		t.Errorf("an architecture that is not there: %v", err)
	}
	_, err := c.Pull(t.Context(), "team/app", "v2", "amd64", nil)
	if r, ok := errors.AsType[*puller.Refusal](err); !ok || r.Status != 404 || r.Code != "MANIFEST_UNKNOWN" {
		t.Errorf("a tag that is not there: %v", err)
	}
	for what, f := range map[string]upstreamtest.Fault{
		"a flipped bit": {Kind: "blob", Flip: true, Times: 1},
		"a cut":         {Kind: "blob", Cut: 10, Times: 1},
	} {
		up.Fail(f)
		if _, err := c.Pull(t.Context(), "team/app", "v1", "amd64", nil); err == nil {
			t.Errorf("%s is no error", what)
		}
	}
}
