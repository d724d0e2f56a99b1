package main

import (
	"testing"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// TestHeldCommand: what a rule holds is listed and explained, in words and as JSON.
func TestHeldCommand(t *testing.T) {
	k := newControl(t)
	first := k.up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1000))
	k.want(exitOK, "done", "prefetch", "local/team/app:v1")
	second := k.up.AddImage("team/app", "v1", upstreamtest.Layers(1, 2000))
	k.up.AddImage("team/new", "v1", upstreamtest.Layers(1, 3000))
	k.p.reload(t, file(k.up, "admin: 127.0.0.1:0", "adminAccess: {token: {value: "+secretToken+"}}", "store: dir:"+k.store)+"    minAge: 72h\n", reloaded)
	wantImage(t, k.p.url, first, k.up)
	if status, body := fetch(t, client(), k.p.url+"/v2/local/team/new/manifests/v1"); status != 403 {
		t.Fatalf("status %d: %s", status, body)
	}
	k.want(exitOK, "local/team/app:v1  "+second.Digest.String()+"  local|"+first.Digest.String()+"|nothing|rule 'local' wants images that were seen for 72h0m0s|2 held", "held")
	k.want(exitOK, "1 held|local/team/new:v1", "held", "local/team/new")
	k.want(exitOK, "... and more", "held", "-limit", "1")
	k.want(exitOK, `"total":2|"former":"`+first.Digest.String()+`"`, "held", "-json")
	k.want(exitOK, "held        "+second.Digest.String()+"|held until  20", "explain", "local/team/app:v1")
}
