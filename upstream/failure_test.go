package upstream

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// The address of a redirect may hold a signature, which code that unwraps the error must
// not see either.
func TestCausesHoldNoURL(t *testing.T) {
	source := Source{Rule: "r", Host: "hub.example", Repository: "a"}
	f := &failures{source: source, policy: newHostPolicy(source.Host, nil)}
	for _, host := range []string{"hub.example", "cdn.example"} {
		var err error = f.failed(t.Context(), http.MethodGet, &url.Error{Op: "Get", URL: "https://" + host + "/x?sig=hunter2", Err: io.EOF})
		for ; err != nil; err = errors.Unwrap(err) {
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: %T: %v", host, err, err)
			}
		}
	}
}
