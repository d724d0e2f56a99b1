package upstream_test

import (
	"net/http"
	"testing"
)

// What a request costs beside one by bare net/http, in allocations. The limits are a little
// above what there is; whoever needs more should know for what.
func TestRequestsAreCheap(t *testing.T) {
	if raceEnabled {
		t.Skip("net/http allocates more under the race detector, and not always the same")
	}
	const token = "token-0123456789abcdef"
	open, asks := newScripted(t, ""), newScripted(t, token)
	plain, withToken := open.open(t, nil), asks.open(t, nil)
	buf := make([]byte, len(small))
	tr := &http.Transport{DisableCompression: true}
	defer tr.CloseIdleConnections()
	bareHead := func() {
		bareRequest(t, tr, http.MethodHead, "http://"+open.addr+"/v2/team/api/manifests/v1", nil)
	}
	bareBlob := func() {
		bareRequest(t, tr, http.MethodGet, "http://"+open.addr+"/v2/team/api/blobs/"+smallDigest.String(), buf)
	}
	for name, c := range map[string]struct {
		bare, ask func()
		more      float64
	}{
		"HEAD":              {bareHead, func() { head(t, plain) }, 13},
		"HEAD with a token": {bareHead, func() { head(t, withToken) }, 13},
		"blob":              {bareBlob, func() { readSmall(t, plain, buf) }, 19},
		"blob with a token": {bareBlob, func() { readSmall(t, withToken, buf) }, 19},
	} {
		bare, got := testing.AllocsPerRun(200, c.bare), testing.AllocsPerRun(200, c.ask)
		if got > bare+c.more {
			t.Errorf("%s: %v allocations, want at most %v more than the %v of net/http", name, got, c.more, bare)
		}
	}
}
