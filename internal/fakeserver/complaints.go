package fakeserver

import (
	"fmt"
	"slices"
	"sync"
	"testing"
)

// Complaints are what clients did that no client may do. Its methods are safe for
// concurrent use.
type Complaints struct {
	// Name is the fake's, with which every complaint begins.
	Name string
	// T is failed by every complaint. If nil, complaints are only kept. It is set
	// before the first request.
	T testing.TB

	mu    sync.Mutex
	texts []string
}

// Complain makes a complaint.
func (c *Complaints) Complain(format string, args ...any) {
	text := c.Name + ": " + fmt.Sprintf(format, args...)
	c.mu.Lock()
	c.texts = append(c.texts, text)
	c.mu.Unlock()
	if c.T != nil {
		c.T.Helper()
		c.T.Error(text)
	}
}

// All returns the complaints, in order.
func (c *Complaints) All() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.texts)
}
