package azure_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/auth/azure"
	"github.com/pullthrough/pullthrough/auth/azuretest"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// neighbors are two teams that share a source and a cache: each has a
// repository, a rule for it, and an identity that may pull from that one only.
// Both repositories hold the images "v1" and "big"; "own" is different in each.
// A third rule for each tries the other team's repository with its own identity.
type neighbors struct {
	*cached
	who      map[string]*azure.UserAssigned // by team
	big, own map[string]upstreamtest.Image
}

func newNeighbors(t *testing.T) *neighbors {
	s := newWiredScene(t)
	n := &neighbors{who: map[string]*azure.UserAssigned{}, big: map[string]upstreamtest.Image{}, own: map[string]upstreamtest.Image{}}
	var rules []rule.Rule
	for i, team := range []string{"a", "b"} {
		repository := "team-" + team + "/api"
		n.who[team] = s.identity(repository)
		n.big[team] = s.registry.Content.AddImage(repository, "big", upstreamtest.Layers(1, big))
		n.own[team] = s.registry.Content.AddImage(repository, "own", [][]byte{upstreamtest.Bytes(uint64(100+i), 1000)})
		rules = append(rules,
			rule.Rule{Name: "own-" + team, Source: dev + "/" + repository, Target: team + "/api", Auth: n.who[team]},
			rule.Rule{Name: "try-" + team, Source: dev + "/team-" + theOther(team) + "/api", Target: team + "/stolen", Auth: n.who[team]})
	}
	n.cached = s.serve(rules...)
	return n
}

func theOther(team string) string { return map[string]string{"a": "b", "b": "a"}[team] }

// wantNothing requests an image in all ways through a rule that has no right to it.
func (n *neighbors) wantNothing(when, repository string, status int, img upstreamtest.Image, tags ...string) {
	n.t.Helper()
	paths := []string{manifests(repository, img.Digest.String()), blobs(repository, img.Config.Digest), blobs(repository, img.Layers[0].Digest)}
	for _, tag := range tags {
		paths = append(paths, manifests(repository, tag))
	}
	secret := [][]byte{img.Manifest, n.registry.Content.Blob(img.Repository, img.Config.Digest), n.registry.Content.Blob(img.Repository, img.Layers[0].Digest)[:512]}
	for _, path := range paths {
		for _, method := range []string{"GET", "HEAD"} {
			for _, r := range []reply{n.do(method, path), n.do(method, path, "Range", "bytes=0-600"), n.do(method, path, "If-None-Match", `"`+path[strings.LastIndexByte(path, '/')+1:]+`"`)} {
				if r.status != status {
					n.t.Errorf("%s: %s %s: %d %.200q, want %d", when, method, path, r.status, r.body, status)
				}
				for _, s := range secret {
					if bytes.Contains(r.body, s) {
						n.t.Errorf("%s: %s %s gives what is not theirs", when, method, path)
					}
				}
			}
		}
	}
}

// tokenOf returns the claims of the access token of a call.
func tokenOf(call azuretest.Call) (principal string, scopes []string) {
	parts := strings.Split(strings.TrimPrefix(call.Header.Get("Authorization"), "Bearer "), ".")
	if len(parts) != 3 {
		return "", nil
	}
	var claims struct {
		Object string   `json:"oid"`
		Scopes []string `json:"scopes"`
	}
	data, _ := base64.RawURLEncoding.DecodeString(parts[1])
	_ = json.Unmarshal(data, &claims)
	return claims.Object, claims.Scopes
}

// count counts the requests for a blob with the token of a team at the source. The token
// must be valid for the repository.
func (n *neighbors) count(method, team string, d digest.Digest) (count int) {
	repository := "team-" + team + "/api"
	for _, call := range n.Calls() {
		principal, scopes := tokenOf(call)
		if call.Endpoint == azuretest.V2 && call.Method == method && call.URL.Path == "/v2/"+blobs(repository, d) && call.Status < 400 {
			if principal != n.behind[n.who[team]].PrincipalID || strings.Join(scopes, " ") != repository {
				n.t.Errorf("%s %s was answered to %s with the scopes %q", method, call.URL.Path, principal, scopes)
			}
			count++
		}
	}
	return count
}

// TestNothingLeaks: a rule gets the content of another rule of one source, whether complete
// or still being downloaded, only with its own credential, in both directions.
func TestNothingLeaks(t *testing.T) {
	for _, team := range []string{"a", "b"} {
		t.Run(team, func(t *testing.T) {
			n, thief := newNeighbors(t), theOther(team)
			layer := n.big[team].Layers[0].Digest
			try := func(when string) {
				t.Helper()
				stolen, home := thief+"/stolen", thief+"/api"
				n.wantNothing(when, stolen, http.StatusForbidden, n.big[team], "big")
				n.wantNothing(when, stolen, http.StatusForbidden, n.own[team], "own")
				n.wantNothing(when, home, http.StatusNotFound, n.own[team])
				for _, path := range []string{"/tags/list", "/referrers/" + n.own[team].Digest.String()} {
					if r := n.do("GET", stolen+path); r.status != http.StatusForbidden {
						t.Errorf("%s: %s%s: %d %s", when, stolen, path, r.status, r.body)
					}
				}
			}
			try("cold")
			h := n.hold("team-"+team+"/api", layer, false)
			running := n.downloading(team+"/api", "big", n.big[team], h)
			n.pullImage(team+"/api", "own", n.own[team])
			try("while it runs")

			// The same digest with a right to it is a download of its own, since nothing
			// is known yet that could be shared.
			n.Reset()
			n.wantBlob(thief+"/api", layer)
			if gets := n.count("GET", thief, layer); gets != 1 {
				t.Errorf("while another rule's download runs: %d downloads of one's own", gets)
			}
			h.release()
			if whole, err := running.end(); !whole || err != nil {
				t.Errorf("the download: %v", err)
			}
			n.settle()
			try("when it is complete")
		})
	}
}

// TestSharedBytesAreEarned: the bytes of a complete copy are shared with another
// rule once the source says yes to that rule's own identity, and not before.
func TestSharedBytesAreEarned(t *testing.T) {
	for _, team := range []string{"a", "b"} {
		t.Run(team, func(t *testing.T) {
			n, second := newNeighbors(t), theOther(team)
			principal, repository := n.behind[n.who[second]].PrincipalID, "team-"+second+"/api"
			n.pullImage(team+"/api", "big", n.big[team])
			n.settle()
			layer := n.big[second].Layers[0].Digest
			n.registry.Revoke(principal)
			n.wantNothing("without a right", second+"/api", http.StatusForbidden, n.big[second], "big")
			n.registry.Grant(principal, repository)
			n.Reset()
			n.pullImage(second+"/api", "big", n.big[second])
			n.settle()
			if heads := n.count("HEAD", second, layer); heads < 1 { // of the client, the copy, or both
				t.Errorf("%d questions with its own identity", heads)
			}
			n.want("nothing is downloaded twice", azuretest.Data, 0)

			// The bytes are stored, but this repository of the source does not have them.
			n.wantNothing("not in its own repository", second+"/api", http.StatusNotFound, n.own[team])
		})
	}
}

// TestNoTokenLeaks: no request for the rules of one team has a token of the other team's
// identity.
func TestNoTokenLeaks(t *testing.T) {
	n := newNeighbors(t)
	for _, team := range []string{"a", "b", "a"} {
		n.pullImage(team+"/api", "own", n.own[team])
		n.wantDenied("GET", manifests(team+"/stolen", "own"), n.who[team].ResourceID(), "cache rule 'try-"+team+"'")
	}
	n.settle()
	owner := map[string]string{n.behind[n.who["a"]].PrincipalID: "a", n.behind[n.who["b"]].PrincipalID: "b"}
	seen := map[string]int{}
	for _, call := range n.Calls() {
		principal, scopes := tokenOf(call)
		if call.Endpoint != azuretest.V2 || principal == "" {
			continue
		}
		team := owner[principal]
		seen[fmt.Sprint(team, " ", call.Status < 400)]++
		if own := strings.HasPrefix(call.URL.Path, "/v2/team-"+team+"/"); own != (call.Status < 400) || !own && len(scopes) > 0 {
			t.Errorf("%s %s with the token of %s for %q: %d", call.Method, call.URL.Path, team, scopes, call.Status)
		}
	}
	for _, what := range []string{"a true", "a false", "b true", "b false"} {
		if seen[what] == 0 {
			t.Errorf("no call of the kind %q: this test looks at nothing", what)
		}
	}
	n.want("each rule for itself", azuretest.IMDS, 2, azuretest.Exchange, 4)
}
