package watch

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/pullthrough/pullthrough/cache"
)

// Outcome says in one word how a request went. There are as many as constants.
type Outcome string

// The outcomes, in the order of [Outcomes].
const (
	Hit     Outcome = "hit"     // what was here, without a request to the upstream
	Checked Outcome = "checked" // what was stored, after the upstream was asked about the tag
	Stale   Outcome = "stale"   // what was stored, since the upstream could not be asked or refused
	Miss    Outcome = "miss"    // what the upstream sent
	Served  Outcome = "served"  // no upstream is concerned, such as for /v2/
	Absent  Outcome = "absent"  // 404, or 504 to a client that wanted only what is here
	Refused Outcome = "refused" // another 4xx
	Failed  Outcome = "failed"  // 5xx, or the answer was not finished
	Left    Outcome = "left"    // the client did not wait for the end
)

// outcomes is how many there are.
const outcomes = 9

// all are the outcomes by index. It never changes.
var all = [outcomes]Outcome{Hit, Checked, Stale, Miss, Served, Absent, Refused, Failed, Left}

// Outcomes returns all outcomes.
func Outcomes() []Outcome { return slices.Clone(all[:]) }

// index is the place of an outcome in arrays.
func (o Outcome) index() int { return max(0, slices.Index(all[:], o)) }

// OutcomeOf sorts how a request went. The request may be nil.
func OutcomeOf(req *http.Request, o cache.Outcome) Outcome {
	broken := o.Status == 0 || o.Status < 400 && o.Err != nil
	switch {
	case o.Status == statusLeft, broken && left(req, o.Err):
		return Left
	case o.Status == http.StatusNotFound, o.Status == http.StatusGatewayTimeout && o.Detail == onlyIfCached:
		return Absent
	case broken, o.Status >= 500:
		return Failed
	case o.Status >= 400:
		return Refused
	}
	switch o.Result {
	case cache.ResultHit:
		return Hit
	case cache.ResultChecked:
		return Checked
	case cache.ResultStale:
		return Stale
	case cache.ResultMiss:
		return Miss
	}
	return Served
}

// onlyIfCached is the detail of an answer to a client that wants only what is here.
const onlyIfCached = "only-if-cached"

// statusLeft is what the cache answers a client that is not there any more.
const statusLeft = 499

// left reports whether an answer was not finished because of its client.
func left(req *http.Request, err error) bool {
	return errors.Is(err, context.Canceled) || req != nil && errors.Is(req.Context().Err(), context.Canceled)
}
