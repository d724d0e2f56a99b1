// Package gate decides which new images the tags of a cache may move to: only images that
// were seen for a while (minAge), and only those that a command or an HTTP service admits.
//
//	gates := &gate.Gates{Records: dir, Logger: log}
//	err := gates.Start(ctx) // reads what a former process saw
//	gates.Assign(map[string]gate.Rule{"docker-hub": {MinAge: 72 * time.Hour}})
//	c := &cache.Cache{Admit: gates.Admit, ...}
//
// The age of an image is the time since this cache saw its digest for the first time, as a
// tag of that repository. The time at which it was built, which is written in the image,
// does not count: its publisher writes there what he likes.
//
// Meanwhile the tag stands for the former image, and the first pull of a tag is refused.
// Pulls by digest are not gated: who knows a digest has decided already.
package gate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/store"
)

// Defaults of [Rule] and [Gates].
const (
	DefaultTimeout  = 30 * time.Second
	DefaultRemember = 10 * time.Minute
	DefaultSights   = 64 << 10
)

const (
	// retryFailed is how long an image is held after a gate that failed, before the gate is
	// asked again.
	retryFailed = time.Minute
	// retryUndecided is how long it is held while the gate decides.
	retryUndecided = 2 * time.Second
	// waitFormer is how long a pull waits for the gate if there is a former image, and
	// waitFirst if there is none.
	waitFormer, waitFirst = time.Second, 10 * time.Second
	// atOnce is how many questions of a rule's gate are under way, and atOnceAll how many of
	// all gates.
	atOnce, atOnceAll = 2, 16
	// mostAsked is how many answers of a gate are remembered and waited for.
	mostAsked = 1024
)

// Question is what a gate is asked: whether a tag may stand for an image from now on. Gates
// get it as JSON. It does not hold the manifest, which is not always known; a gate can pull
// the digest through the cache, where pulls by digest are not gated.
type Question struct {
	Rule       string `json:"rule"`
	Source     string `json:"source"`     // of the image, such as docker.io/library/alpine
	Repository string `json:"repository"` // local name
	Tag        string `json:"tag"`
	Digest     string `json:"digest"`
	MediaType  string `json:"mediaType"`
	Size       int64  `json:"size"`             // of the manifest
	Former     string `json:"former,omitempty"` // digest that the tag stands for; empty if there is none
}

// Asker is a gate: a [Command] or an [HTTP].
type Asker interface {
	// Ask asks a question. It must end when ctx does. An error means that there is no
	// answer: the image is held for a minute. Its text is for the log and holds no secret.
	Ask(ctx context.Context, q Question) (Answer, error)
}

// Answer is the answer of a gate. The zero value refuses.
type Answer struct {
	Admitted bool
	// Hold is how long the image is held before the gate is asked again. If zero, an image
	// that is not admitted is refused.
	Hold time.Duration
	// Reason says why, in one line that clients may see.
	Reason string
}

// Rule is what a rule of the cache demands of new images. The zero value admits all.
type Rule struct {
	// MinAge is how long a digest must have been seen. If zero, it need not.
	MinAge time.Duration
	// Gate is asked about digests that are old enough. If nil, they are admitted.
	Gate Asker
	// Timeout is the time limit of a question. If zero, DefaultTimeout.
	Timeout time.Duration
	// Remember is how long an answer counts for the same digest of the same tag. If zero,
	// DefaultRemember.
	Remember time.Duration
}

// Refused is the error of an image that a gate refused.
type Refused struct{ Reason string }

// Error tells the reason.
func (r *Refused) Error() string { return "the gate refuses it: " + r.Reason }

// Gates are those of all rules. Its fields must not change after [Gates.Start]. It is safe
// for concurrent use and must not be copied.
type Gates struct {
	// Records keep the first sights over restarts. If nil, a restart begins anew.
	Records store.Records
	// Sights is how many first sights are kept. If there are more, the rule that has most
	// forgets the one that was asked for least recently: that image is held anew. If zero,
	// DefaultSights.
	Sights int
	// Logger gets what goes wrong. If nil, nothing is logged.
	Logger *slog.Logger

	mu     sync.Mutex
	rules  map[string]*ruleGate
	sights sights
	all    chan struct{} // one element for each question under way
	ctx    context.Context
	cancel context.CancelFunc
	asking sync.WaitGroup
	closed bool
}

// ruleGate is a rule with what is remembered of its gate.
type ruleGate struct {
	Rule
	asked *asked // nil without a gate
}

// Start reads the first sights that a former process has seen. It must be called once,
// before anything else. Its error is that of the records; the Gates work nevertheless, and
// what could not be read is seen anew.
func (g *Gates) Start(ctx context.Context) error {
	if g.Logger == nil {
		g.Logger = slog.New(slog.DiscardHandler)
	}
	g.ctx, g.cancel = context.WithCancel(context.WithoutCancel(ctx))
	g.all = make(chan struct{}, atOnceAll)
	g.sights.most = DefaultSights
	if g.Sights > 0 {
		g.sights.most = g.Sights
	}
	g.sights.records, g.sights.log = g.Records, g.Logger
	return g.sights.load(ctx)
}

// Assign replaces all rules, by name. Answers of gates that were remembered are forgotten;
// first sights are not. The caller should have [cache.Cache.Reconsider] forget its holds.
func (g *Gates) Assign(rules map[string]Rule) {
	next := make(map[string]*ruleGate, len(rules))
	for name, r := range rules {
		one := &ruleGate{Rule: r}
		if r.Timeout <= 0 {
			one.Timeout = DefaultTimeout
		}
		if r.Remember <= 0 {
			one.Remember = DefaultRemember
		}
		if r.Gate != nil {
			one.asked = newAsked(one.Rule, g)
		}
		next[name] = one
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rules = next
}

// Close ends the questions that are under way, such as by killing their commands, and waits
// for them.
func (g *Gates) Close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.cancel()
	g.asking.Wait()
}

// begin runs f on a goroutine of its own for which Close waits, unless that was called.
func (g *Gates) begin(f func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.asking.Go(f)
	}
	return !g.closed
}

// errClosed reports Gates that were closed.
var errClosed = errors.New("the cache is shutting down")

// Admit decides about a candidate. It is for [cache.Cache.Admit].
func (g *Gates) Admit(ctx context.Context, c cache.Candidate) error {
	g.mu.Lock()
	r := g.rules[c.Source.Rule]
	g.mu.Unlock()
	if r == nil {
		return nil
	}
	if r.MinAge > 0 {
		now := time.Now()
		first := g.sights.see(ctx, sight{Source: c.Source, Digest: c.Digest}, now)
		if until := first.Add(r.MinAge); now.Before(until) {
			return &cache.Hold{Until: until, Reason: fmt.Sprintf("it was first seen here at %s, and rule '%s' wants images that were seen for %s",
				first.UTC().Format(time.RFC3339), c.Source.Rule, r.MinAge)}
		}
	}
	if r.asked == nil {
		return nil
	}
	return r.asked.admit(ctx, Question{
		Rule: c.Source.Rule, Source: c.Source.String(), Repository: c.Repository, Tag: c.Tag, Digest: c.Digest.String(),
		MediaType: c.MediaType, Size: c.Size, Former: c.Former.String(),
	})
}
