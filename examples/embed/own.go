package main

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/pullthrough/pullthrough/cache"
)

// gate admits requests with a token. A real one would look at the registry's users and
// permissions, and sign the tokens that it issues.
type gate struct {
	user, password string
	token          string
	realm          string // the URL of the token server
}

// authorize is for cache.Cache.Authorize and cache.Guard. A request without a token is
// challenged to send one (401); a request for more than the token allows is refused (403).
func (g gate) authorize(r *http.Request, access cache.Access) error {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || subtle.ConstantTimeCompare([]byte(token), []byte(g.token)) != 1 {
		return &cache.Challenge{Header: g.challenge(access)}
	}
	for _, action := range access.Actions {
		if action != cache.ActionPull {
			return errors.New("this token is for pulls, not for " + action)
		}
	}
	return nil
}

// challenge tells clients where to get a token, and with which scope. Some clients need the
// scope to name the repository as they requested it.
func (g gate) challenge(access cache.Access) string {
	text := fmt.Sprintf("Bearer realm=%q,service=%q", g.realm, "own")
	if access.Requested != "" {
		text += fmt.Sprintf(",scope=%q", "repository:"+access.Requested+":"+strings.Join(access.Actions, ","))
	}
	return text
}

// issue is the token server. It issues a token to the only user.
func (g gate) issue(w http.ResponseWriter, r *http.Request) {
	user, password, ok := r.BasicAuth()
	if !ok || user != g.user || password != g.password {
		refuse(w, http.StatusUnauthorized, "UNAUTHORIZED")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"token": g.token})
}

// own is the registry into which the cache is built: one repository with one tag.
type own struct {
	repository string
	tag        string
	config     []byte
	manifest   []byte
}

// newOwn makes a registry that holds one empty image.
func newOwn() *own {
	o := &own{repository: "own/hello", tag: "latest", config: []byte("{}")}
	o.manifest = fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[]}`,
		"application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.config.v1+json", digest(o.config), len(o.config))
	return o
}

// ServeHTTP serves /v2/ and pulls of the one repository.
func (o *own) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED")
		return
	}
	prefix := "/v2/" + o.repository
	switch r.URL.Path {
	case "/v2/":
		write(w, r, "application/json", []byte("{}"))
	case prefix + "/manifests/" + o.tag, prefix + "/manifests/" + digest(o.manifest):
		write(w, r, "application/vnd.oci.image.manifest.v1+json", o.manifest)
	case prefix + "/blobs/" + digest(o.config):
		write(w, r, "application/octet-stream", o.config)
	default:
		refuse(w, http.StatusNotFound, "NAME_UNKNOWN")
	}
}

// write responds with content.
func write(w http.ResponseWriter, r *http.Request, mediaType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Docker-Content-Digest", digest(body))
	h.Set("Server", "own-registry")
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}

// refuse responds with an OCI error.
func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Server", "own-registry")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"errors":[{"code":%q}]}`, code)
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}
