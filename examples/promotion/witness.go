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

// witness is shown all that anybody can read: what is printed and logged, and
// every answer to the client. It looks for the secrets that are in play at that
// time. Each line and each answer must come in one piece.
type witness struct {
	azure *azuretest.Azure

	mu    sync.Mutex
	seen  int64    // bytes
	found []string // what kinds of secrets; the secrets themselves are not repeated
}

// Write looks at p.
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

// noSecrets tells what there was to be seen, and what was seen of it.
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
	s.line("secrets", "in play were: %s", strings.Join(list, ", "))
	s.line("", "%d of them are in the %s that were printed, logged and answered", len(found), size(seen))
	return errors.Join(
		check(len(found) == 0, "secrets could be read: %q", found),
		check(len(list) > 0, "no secret was in play, so none could be read"),
	)
}
