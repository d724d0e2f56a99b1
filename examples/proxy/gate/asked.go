package gate

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/pullthrough/pullthrough/cache"
)

// asked is the gate of one rule, with what it has answered and what it is being asked, so
// that many pulls of a tag cost one question. A question runs on its own, and a pull that
// does not want to wait for it gets a hold. It is safe for concurrent use.
type asked struct {
	rule  Rule
	gates *Gates
	slots chan struct{} // one element for each question under way

	mu      sync.Mutex
	known   map[subject]*list.Element // of *exchange
	recent  list.List                 // the last that was used first
	waiting int                       // questions without an answer
}

// subject is what an answer is about, whatever the tag stood for before.
type subject struct{ source, repository, tag, digest string }

func (q Question) subject() subject { return subject{q.Source, q.Repository, q.Tag, q.Digest} }

// exchange is a question and its answer.
type exchange struct {
	question Question
	done     chan struct{} // closed when there is an answer
	answer   Answer
	expires  time.Time // zero while there is no answer
}

func newAsked(r Rule, g *Gates) *asked {
	return &asked{rule: r, gates: g, slots: make(chan struct{}, atOnce), known: map[subject]*list.Element{}}
}

// admit returns nil, a hold or a refusal.
func (a *asked) admit(ctx context.Context, q Question) error {
	wait := waitFirst
	if q.Former != "" {
		wait = waitFormer
	}
	x := a.exchange(q)
	if x == nil {
		return hold(retryUndecided, tooMany)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-x.done:
		return x.result(a.rule.Remember)
	case <-ctx.Done():
	case <-a.gates.ctx.Done():
	case <-timer.C:
	}
	return hold(retryUndecided, looking)
}

// What is said of images about which there is no answer yet.
const (
	looking = "the gate is looking at it"
	tooMany = "the gate has too many images to look at"
)

// Undecided reports whether an error of [Gates.Admit] says no more than that there is no
// answer yet.
func Undecided(err error) bool {
	h, ok := errors.AsType[*cache.Hold](err)
	return ok && (h.Reason == looking || h.Reason == tooMany)
}

// hold returns a hold of that length.
func hold(d time.Duration, reason string) error {
	return &cache.Hold{Until: time.Now().Add(d), Reason: reason}
}

// result is what an exchange with an answer means.
func (x *exchange) result(remember time.Duration) error {
	switch {
	case x.answer.Admitted:
		return nil
	case x.answer.Hold > 0:
		return &cache.Hold{Until: x.expires, Reason: x.answer.Reason}
	}
	return &Refused{x.answer.Reason}
}

// exchange returns the exchange about a question, which it begins if there is none. It
// returns nil if too many wait already.
func (a *asked) exchange(q Question) *exchange {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e := a.known[q.subject()]; e != nil {
		x := e.Value.(*exchange)
		if x.expires.IsZero() || time.Now().Before(x.expires) {
			a.recent.MoveToFront(e)
			return x
		}
		a.forget(e)
	}
	if a.waiting >= mostAsked/2 {
		return nil
	}
	x := &exchange{question: q, done: make(chan struct{})}
	if !a.gates.begin(func() { a.ask(x) }) {
		return nil
	}
	a.waiting++
	a.known[q.subject()] = a.recent.PushFront(x)
	for e := a.recent.Back(); e != nil && a.recent.Len() > mostAsked; {
		before := e.Prev()
		if !e.Value.(*exchange).expires.IsZero() { // one that waits is asked for
			a.forget(e)
		}
		e = before
	}
	return x
}

// forget forgets an exchange. a.mu is held.
func (a *asked) forget(e *list.Element) {
	delete(a.known, a.recent.Remove(e).(*exchange).question.subject())
}

// ask asks the gate when it is its turn.
func (a *asked) ask(x *exchange) {
	answer, err := a.turn(x.question)
	keep := a.rule.Remember
	switch {
	case err != nil:
		if a.gates.ctx.Err() == nil {
			a.gates.Logger.Warn("a gate did not answer; the image is held", "rule", x.question.Rule, "repository", x.question.Repository,
				"tag", x.question.Tag, "digest", x.question.Digest, "error", err)
		}
		answer = Answer{Hold: retryFailed, Reason: "the gate did not answer"}
		keep = retryFailed
	case answer.Hold > 0 && !answer.Admitted:
		keep = answer.Hold
	}
	answer.Reason = line(answer.Reason)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting--
	x.answer, x.expires = answer, time.Now().Add(keep)
	close(x.done)
}

// turn waits for a slot of the rule and for one of all, and asks.
func (a *asked) turn(q Question) (Answer, error) {
	for _, slots := range []chan struct{}{a.slots, a.gates.all} {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		case <-a.gates.ctx.Done():
			return Answer{}, errClosed
		}
	}
	ctx, cancel := context.WithTimeout(a.gates.ctx, a.rule.Timeout)
	defer cancel()
	return a.rule.Gate.Ask(ctx, q)
}
