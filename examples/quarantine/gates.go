package main

import (
	"context"
	"errors"
	"time"

	"github.com/pullthrough/pullthrough/cache"
)

// objections is how long production waits before it takes what it was asked for, so that
// somebody may object. It would be a day or so, and is short here.
const objections = 700 * time.Millisecond

// intoDev is the gate of development, for cache.Cache.Admit: it lets in what the scanner
// has found to be clean.
func (t *trail) intoDev(_ context.Context, c cache.Candidate) error {
	if _, ok := t.has("scanner", rejected, c.Digest); ok {
		return errors.New("the scanner has rejected it")
	}
	if _, ok := t.has("scanner", clean, c.Digest); !ok {
		return errors.New("it is in quarantine and has not been scanned yet; try again soon")
	}
	return nil
}

// intoProd is the gate of production: it lets in what test has pulled, after the time for
// objections. The cache does not ask again before the time that a Hold names.
func (t *trail) intoProd(_ context.Context, c cache.Candidate) error {
	if _, ok := t.has("test", push, c.Digest); !ok {
		return errors.New("test has not pulled it yet")
	}
	until := t.decide("prod", asked, c.Digest).time.Add(objections)
	if time.Now().Before(until) {
		return &cache.Hold{Until: until, Reason: "there is time for objections"}
	}
	return nil
}
