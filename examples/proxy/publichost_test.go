package main

import (
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook/webhooktest"
)

// TestPublicHost: receivers build names of images from the host in an event, so it is that of
// the file, whatever host the client used.
func TestPublicHost(t *testing.T) {
	for _, test := range []struct{ name, key, format, want string }{
		{"with a port", "publicHost: cache.example.com:5000\n", "acr", "cache.example.com:5000"},
		{"without a port", "publicHost: Cache.Example.com\n", "cloudevents", "cache.example.com"},
		{"an address", "publicHost: \"[2001:DB8::1]:8443\"\n", "cloudevents-binary", "[2001:db8::1]:8443"},
		{"not given", "", "acr", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			up, hook := upstreamtest.NewRegistry(t), webhooktest.New(t)
			index := up.AddMultiPlatform("team/app", "v1", upstreamtest.Layers(1, 1000), "amd64")
			p := startProxy(t, test.key+withHooks(up, "dir:"+t.TempDir(), hook.URL()+"\n    format: "+test.format))
			pull(t, p, up, "v1", index, "amd64")
			wantEvents(t, hook, threeOf(index, "v1", 0)...)
			want := test.want
			if want == "" {
				want = strings.TrimPrefix(p.url, "http://")
			}
			for _, ev := range hook.Events() {
				if ev.Request == nil || ev.Request.Host != want {
					t.Errorf("%s of %s: the request is %+v, want the host %s", ev.Action, ev.Target.Tag, ev.Request, want)
				}
			}
			p.signal(t)
			p.wantExit(t, exitOK)
		})
	}
}
