package main

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"maps"
	"net/url"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/proxy/gate"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/webhook"
)

// The bounds of what the file may say of gates.
const (
	longestAge                    = 366 * 24 * time.Hour
	shortestGate, longestGate     = 100 * time.Millisecond, 10 * time.Minute
	shortestMemory, longestMemory = time.Second, 24 * time.Hour
)

// gateConfig is the gate of a rule: a command or a URL.
type gateConfig struct {
	position
	command           []word
	url               secretConfig
	headers           []headerConfig
	ca                word
	timeout, remember time.Duration
}

// given reports whether the key is in the file.
func (g gateConfig) given() bool { return g.line != 0 }

// read returns the read of a gate section.
func (g *gateConfig) read(r reader) read {
	return func(n *yaml.Node, pos position) {
		g.position = pos
		var w webhookConfig // whose headers have the same form
		before := r.count()
		r.fields(n, pos, map[string]read{
			"command":  r.some(r.words(&g.command), func() int { return len(g.command) }),
			"url":      g.url.readText(r),
			"headers":  w.readHeaders(r),
			"ca":       r.word(&g.ca),
			"timeout":  r.between(&g.timeout, shortestGate, longestGate),
			"remember": r.between(&g.remember, shortestMemory, longestMemory),
		})
		if r.sketch != nil {
			r.sketch.at(pos.key).OneOf = []*schema{{Required: []string{"command"}}, {Required: []string{"url"}}}
			return
		}
		g.headers = w.headers
		switch command, address := len(g.command) > 0, g.url.line != 0; {
		case command && address:
			r.add(g.url.position, "excludes command: a gate is one of the two")
		case !command && !address && r.count() == before:
			r.add(pos, "command or url is missing")
		case !address && len(g.headers) > 0:
			r.add(g.headers[0].value.position, "makes no sense without url: a command gets no headers")
		case !address && g.ca.given():
			r.add(g.ca.position, "makes no sense without url: a command uses no TLS")
		}
	}
}

// minAge reads how long an image must have been seen.
func (r reader) minAge(to *time.Duration) read {
	return r.between(to, 0, longestAge)
}

// asker returns the gate for the rule, and notes its mistakes.
func (g gateConfig) asker(found *mistakes) gate.Asker {
	if len(g.command) > 0 {
		c := &gate.Command{}
		for _, w := range g.command {
			c.Args = append(c.Args, w.text)
		}
		if err := c.Check(); err != nil && g.command[0].text != "" {
			found.add(g.command[0].position, "%v; name a program in PATH, or with its folder", err)
		}
		return c
	}
	h := &gate.HTTP{Headers: map[string]auth.Secret{}}
	h.URL = g.url.checked(found, checkGateURL)
	for _, header := range g.headers {
		h.Headers[header.name] = header.checked(found)
	}
	var pool *x509.CertPool
	if g.ca.text != "" {
		pool = roots(g.ca, found)
	}
	h.Client = gate.NewClient(pool)
	return h
}

// checkGateURL checks the URL of a gate. Its errors do not repeat it.
func checkGateURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("is not a URL such as https://gate.example.com/admit")
	}
	return nil
}

// newGates returns what the rules demand of new images.
func newGates(list []ruleConfig, found *mistakes) map[string]gate.Rule {
	all := map[string]gate.Rule{}
	for _, rc := range list {
		one := gate.Rule{MinAge: rc.minAge, Timeout: rc.gate.timeout, Remember: rc.gate.remember}
		if rc.gate.given() && (len(rc.gate.command) > 0 || rc.gate.url.line != 0) {
			one.Gate = rc.gate.asker(found)
		}
		if one.MinAge > 0 || one.Gate != nil {
			all[rc.name.text] = one
		}
	}
	return all
}

// keepBudget returns how many pulls of each upstream host are kept for what is not stored.
func (s *settings) keepBudget() map[string]int {
	all := map[string]int{}
	for _, u := range s.config.upstreams {
		if u.keepBudget > 0 {
			all[host(u.host.text)] = int(u.keepBudget)
		}
	}
	return all
}

// sameBudget reports whether as much is kept.
func (s *settings) sameBudget(next *settings) bool {
	return maps.Equal(s.keepBudget(), next.keepBudget())
}

// startGates reads the first sights of images, and puts the gates of the file in force. What
// it returns must be called after the cache has ended.
func (l *live) startGates(ctx context.Context, in store.Store) (stop func()) {
	l.gates.Logger = l.log
	l.gates.Records, _ = store.As[store.Records](in)
	if err := l.gates.Start(ctx); err != nil {
		l.log.Error("when images were seen first cannot be read; some are held anew", "error", err)
	}
	l.gates.Assign(l.current.gates)
	if l.current.storeKind == storeMem && len(l.current.gates) > 0 {
		l.log.Warn("the store is in memory: after a restart the age of images counts anew")
	}
	return l.gates.Close
}

// endHolds ends what the gates of a former file hold: those that are in force are asked at
// the next pull.
func (l *live) endHolds(ctx context.Context) {
	if l.reconsider == nil {
		return // nothing is served yet
	}
	if _, err := l.reconsider(ctx, "", ""); err != nil {
		l.log.Error("images are held until the times that the former gates said", "error", err)
	}
}

// held tells the operator that a tag does not move: in the log, and, once that is decided, by
// an event.
func (l *live) held(c cache.Candidate, err error) {
	level := slog.LevelWarn
	if gate.Undecided(err) {
		level = slog.LevelInfo
	} else {
		l.sendHeld(c)
	}
	l.log.Log(context.Background(), level, "an image is held: its tag does not move", "rule", c.Source.Rule, "source", c.Source.String(),
		"repository", c.Repository, "tag", c.Tag, "digest", c.Digest.String(), "former", c.Former.String(), "why", err.Error())
}

// sendHeld writes down the event of an image that is held, which is delivered later, as all events.
// After a restart the gate is asked again, so the event is sent again if the image is still held.
func (l *live) sendHeld(c cache.Candidate) {
	if l.events == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), heldTimeout)
	defer cancel()
	err := l.events.Send(ctx, webhook.Event{
		ID: webhook.NewID(), Timestamp: time.Now().UTC(), Action: webhook.ActionQuarantine,
		Target: webhook.Target{
			MediaType: c.MediaType, Size: c.Size, Length: c.Size, Digest: c.Digest.String(), Repository: c.Repository, Tag: c.Tag,
		},
	})
	if err != nil {
		l.log.Error("the event of an image that is held was not taken over", "repository", c.Repository, "tag", c.Tag, "error", err)
	}
}

// heldTimeout is how long a pull waits for the event of what is held to be written down.
const heldTimeout = 2 * time.Second
