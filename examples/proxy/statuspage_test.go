package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// TestStatusPage: the page is at the admin address, says how to pull, and what was pulled.
// Acting from it takes the token, and other sites cannot act.
func TestStatusPage(t *testing.T) {
	const token = "a-token-of-this-test"
	up := upstreamtest.NewRegistry(t)
	img := up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1000))
	p := startProxy(t, file(up, "admin: 127.0.0.1:0", "adminAccess: {token: {value: "+token+"}}"))
	admin := "http://" + adminOf(t, p)
	want := func(texts ...string) {
		t.Helper()
		status, body := fetch(t, client(), admin+"/")
		for _, text := range texts {
			if status != 200 || !strings.Contains(string(body), text) {
				t.Errorf("status %d; the page does not have %q", status, text)
			}
		}
	}
	want("Nothing was pulled yet", "docker pull "+strings.TrimPrefix(p.url, "http://")+"/local/NAME:TAG", up.Host()+"/*")
	wantImage(t, p.url, img, up)
	want("local/team/app:v1", "From upstream", "Everything works")

	for name, c := range map[string]struct {
		header http.Header
		want   int
	}{
		"nobody":                  {http.Header{"Sec-Fetch-Site": {"same-origin"}}, 401},
		"somebody":                {http.Header{"Sec-Fetch-Site": {"same-origin"}, "Authorization": {"Bearer another-token-of-somebody"}}, 401},
		"another site":            {http.Header{"Sec-Fetch-Site": {"cross-site"}, "Authorization": {"Bearer " + token}}, 403},
		"an operator, of nothing": {http.Header{"Sec-Fetch-Site": {"same-origin"}, "Authorization": {"Bearer " + token}}, 404},
	} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", admin+"/resend", strings.NewReader("receiver=none&event=none"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = c.header
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s: status %d, want %d", name, resp.StatusCode, c.want)
		}
	}
}
