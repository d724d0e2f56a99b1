package serve

import (
	"fmt"
	"net/http"
	"strings"
)

// asking sends a HEAD upstream before each answer that is a manifest by tag.
func asking(h http.Handler, base string) http.Handler {
	web := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, reference, manifest := strings.Cut(req.URL.Path, "/manifests/")
		if manifest && !strings.Contains(reference, ":") {
			if err := head(req, web, base+req.URL.Path); err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
		}
		h.ServeHTTP(w, req)
	})
}

func head(req *http.Request, web *http.Client, url string) error {
	question, err := http.NewRequestWithContext(req.Context(), http.MethodHead, url, nil)
	if err != nil {
		return err
	}
	resp, err := web.Do(question)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the registry answered %s", resp.Status)
	}
	return nil
}
