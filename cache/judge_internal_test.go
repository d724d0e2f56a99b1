package cache

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/internal/flight"
	"github.com/pullthrough/pullthrough/internal/ledger"
	"github.com/pullthrough/pullthrough/internal/origin"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

// TestJudge walks the table of what a failure means for a copy job: at first, after a
// week, and when it was the last attempt.
func TestJudge(t *testing.T) {
	w := &worker{limits: Limits{Attempts: 5}}
	const (
		givesUp = "gives up"
		own     = "own"    // it counts, and the last attempt parks
		others  = "others" // it does not count, and a week of it parks
		never   = "never"  // it does not count, however long it lasts
	)
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"the rule is gone":             {origin.ErrGone, givesUp},
		"it was deleted":               {ErrDeleted, givesUp},
		"a bad job":                    {fmt.Errorf("%w: no manifest", errBadJob), givesUp},
		"a digest that does not match": {flight.ErrDigest, own},
		"the store fails":              {errors.New("the disk is broken"), own},
		"403":                          {&upstream.Error{Class: upstream.Denied, Status: 403}, own},
		"a bad answer":                 {&upstream.Error{Class: upstream.Protocol}, own},
		"429":                          {&upstream.Error{Class: upstream.Limited, Status: 429}, others},
		"no connection":                {&upstream.Error{Class: upstream.Unreachable}, others},
		"no credential now":            {&auth.UnavailableError{}, others},
		"a full store":                 {fmt.Errorf("write: %w", store.ErrFull), others},
		"a store that does not answer": {fmt.Errorf("far: %w", store.ErrUnavailable), others},
		"no slot":                      {origin.ErrBusy, never},
		"the rules cannot be read":     {fmt.Errorf("%w: down", errNoUpstream), never},
		"the Copier takes nothing":     {fmt.Errorf("%w: down", errNotTaken), never},
		"the sink takes nothing":       {fmt.Errorf("%w: down", errNotSent), never},
		"no room for a platform":       {ErrTooManyCopies, never},
		"it gave its slot to others":   {errYield, never},
		"the process ends":             {errShutdown, never},
		"its context ended":            {context.Canceled, never},
	} {
		fresh, old := ledger.Job{Created: time.Now()}, ledger.Job{Created: time.Now().Add(-8 * 24 * time.Hour)}
		last := ledger.Job{Created: time.Now(), Attempts: 4}
		got := "?"
		switch v, week, end := w.Judge(fresh, 0, c.err), w.Judge(old, 0, c.err), w.Judge(last, 0, c.err); {
		case v.GiveUp:
			got = givesUp
		case v.Own && !v.Park && end.Park:
			got = own
		case !v.Own && !v.Park && !end.Park && week.Park:
			got = others
		case !v.Own && !v.Park && !end.Park && !week.Park:
			got = never
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// TestJudgePauses: pauses double up to ten minutes, and are at least what was asked for.
func TestJudgePauses(t *testing.T) {
	w := &worker{limits: Limits{Attempts: 5}}
	var pauses []time.Duration
	for n := range 12 {
		pauses = append(pauses, w.Judge(ledger.Job{Created: time.Now()}, n, errYield).Pause)
	}
	if pauses[0] != time.Second || pauses[1] != 2*time.Second || pauses[11] != 10*time.Minute {
		t.Errorf("%v", pauses)
	}
	if v := w.Judge(ledger.Job{Created: time.Now()}, 0, &upstream.Error{Class: upstream.Limited, RetryAfter: time.Hour}); v.Pause != time.Hour {
		t.Errorf("429 for an hour: %s", v.Pause)
	}
	if v := w.Judge(ledger.Job{Created: time.Now()}, 0, &auth.UnavailableError{RetryAfter: time.Hour}); v.Pause != time.Hour {
		t.Errorf("no credential for an hour: %s", v.Pause)
	}
	if v := w.Judge(ledger.Job{Created: time.Now()}, 0, store.ErrFull); v.Pause != 10*time.Second || !v.Full {
		t.Errorf("a full store: %+v", v)
	}
	missing := &upstream.Error{Class: upstream.NotFound, Status: 404}
	if !w.Judge(ledger.Job{Created: time.Now(), Attempts: 2}, 0, missing).Park || w.Judge(ledger.Job{Created: time.Now(), Attempts: 1}, 0, missing).Park {
		t.Error("what the upstream does not have is asked for three times")
	}
}
