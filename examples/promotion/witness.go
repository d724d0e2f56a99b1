package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/pullthrough/pullthrough/auth/azuretest"
)

// witness receives all that a person could read: what is printed and logged, and every
// response to the client. It looks in it for the secrets that exist at that time. Each line
// and each response must come in one call of Write.
type witness struct {
	azure *azuretest.Azure

	mu    sync.Mutex
	seen  int64    // bytes
	found []string // what kinds of secrets; the secrets themselves are not repeated
}

// Write looks for secrets in p.
func (w *witness) Write(p []byte) (int, error) {
	secrets := w.azure.Secrets()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen += int64(len(p))
	for _, secret := range secrets {
		if bytes.Contains(p, []byte(secret.Text)) {
			w.found = append(w.found, secret.What)
		}
	}
	return len(p), nil
}

// noSecrets prints which secrets there were, and fails if the witness has found one.
func (s *story) noSecrets() error {
	kinds := map[string]int{}
	for _, secret := range s.azure.Secrets() {
		kinds[secret.What]++
	}
	var list []string
	for _, what := range slices.Sorted(maps.Keys(kinds)) {
		list = append(list, fmt.Sprintf("%d x %s", kinds[what], what))
	}
	s.seen.mu.Lock()
	seen, found := s.seen.seen, slices.Clone(s.seen.found)
	s.seen.mu.Unlock()
	s.line("secrets", "there were: %s", strings.Join(list, ", "))
	s.line("", "%d of them are in the %s that were printed, logged and sent to the client", len(found), size(seen))
	return errors.Join(
		check(len(found) == 0, "secrets could be read: %q", found),
		check(len(list) > 0, "there was no secret, so none could be read"),
	)
}
