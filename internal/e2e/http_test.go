package e2e

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"
)

// client returns the client of the tests themselves. It uses no proxy of the environment,
// since all servers are on loopback.
func client() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
}

// send sends a request, for which the response must have a status, and returns the Location
// of the response, if there is one.
func send(t *testing.T, method, address, mediaType string, body []byte, want int) *url.URL {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	resp, err := client().Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, address, err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != want {
		t.Fatalf("%s %s: status %d, want %d: %s", method, address, resp.StatusCode, want, text)
	}
	location, _ := resp.Location()
	return location
}

// get returns the status and body of a GET. The status is 0 if there was no response.
func get(t *testing.T, address string) (int, []byte) {
	t.Helper()
	status, _, body := getAll(t, address)
	return status, body
}

// getAll is get with the header of the response.
func getAll(t *testing.T, address string) (int, http.Header, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client().Do(req)
	if err != nil {
		return 0, nil, nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("GET %s: %v", address, err)
	}
	return resp.StatusCode, resp.Header, body
}
