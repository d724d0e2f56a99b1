package main

import (
	"context"
	"regexp"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"go.yaml.in/yaml/v3"

	"github.com/pullthrough/pullthrough/examples/proxy/prefetch"
	"github.com/pullthrough/pullthrough/rule"
)

const (
	leastEvery = time.Minute // between two times of a list
	// Jitters if the file does not say them.
	everyJitter = 10 // a part of every
	atJitter    = 10 * time.Minute
)

// prefetchConfig is one element of prefetch: images, and the times at which they are copied.
type prefetchConfig struct {
	position
	image         word
	images        []word
	platforms     platformsConfig
	every, jitter durationConfig
	at            word
}

// durationConfig is a duration and its position. It was not given if it has no line.
type durationConfig struct {
	position
	time.Duration
}

// readPrefetch reads one list and appends it.
func (c *config) readPrefetch(r reader) read {
	return func(n *yaml.Node, pos position) {
		one, before := prefetchConfig{position: pos}, r.count()
		r.fields(n, pos, map[string]read{
			"image":     r.word(&one.image),
			"images":    r.some(r.words(&one.images), func() int { return len(one.images) }),
			"platforms": one.platforms.read(r),
			"every":     one.every.read(r),
			"at":        r.like(r.word(&one.at), `^([01][0-9]|2[0-3]):[0-5][0-9]$`),
			"jitter":    one.jitter.read(r),
		})
		one.check(r, r.count() == before)
		c.prefetch = append(c.prefetch, one)
	}
}

// read returns the read of a duration.
func (d *durationConfig) read(r reader) read {
	return func(n *yaml.Node, pos position) {
		d.position = pos
		r.freshness(&d.Duration)(n, pos)
	}
}

// check notes what does not fit together. What is missing is noted only if there is no other
// mistake, which may be the reason.
func (p *prefetchConfig) check(r reader, well bool) {
	if r.sketch != nil {
		r.sketch.at(p.position.key).OneOf = []*schema{{Required: []string{"image"}}, {Required: []string{"images"}}}
		return
	}
	switch given := p.image.given(); {
	case given && len(p.images) > 0:
		r.add(p.image.position, "excludes images: one of the two names what is copied")
	case !given && len(p.images) == 0 && well:
		r.add(p.position, "image or images is missing")
	}
	if p.every.line != 0 && p.at.given() {
		r.add(p.at.position, "excludes every: a list has one schedule")
	}
	if p.every.line != 0 && p.every.Duration >= 0 && p.every.Duration < leastEvery {
		r.add(p.every.position, "must be at least %v", leastEvery)
	}
	if p.at.text != "" {
		if _, ok := p.daily(); !ok {
			r.add(p.at.position, "%q is not a time of day such as 03:00", p.at.text)
		}
	}
	switch {
	case p.jitter.line == 0:
	case p.every.line == 0 && !p.at.given():
		r.add(p.jitter.position, "makes no sense without every or at: it puts off their times")
	case p.every.Duration >= leastEvery && p.jitter.Duration >= p.every.Duration, p.jitter.Duration >= 24*time.Hour:
		r.add(p.jitter.position, "must be shorter than the time between two times")
	}
}

// daily returns the time of day, and whether there is a valid one.
func (p *prefetchConfig) daily() (prefetch.Daily, bool) {
	t, err := time.Parse("15:04", p.at.text)
	return prefetch.Daily{Hour: t.Hour(), Minute: t.Minute()}, err == nil && len(p.at.text) == len("15:04")
}

// task returns the list for the scheduler, and notes images that are not valid or that no
// rule covers. If rules is nil, they have mistakes themselves.
func (p *prefetchConfig) task(rules *rule.Set, found *mistakes) prefetch.Task {
	p.platforms.check(found)
	var t prefetch.Task
	images := p.images
	if p.image.given() {
		images = append([]word{p.image}, images...)
	}
	for _, w := range images {
		if w.text == "" {
			continue // noted when it was read
		}
		image, ok := parseImage(w.text)
		if !ok {
			found.add(w.position, "%q is not REPOSITORY:TAG, REPOSITORY or REPOSITORY@DIGEST", w.text)
			continue
		}
		image.Platforms = p.platforms.texts()
		if rules != nil {
			m, err := rules.Match(context.Background(), image.Repository)
			switch {
			case err != nil || m == nil:
				found.add(w.position, "no rule covers %q", image.Repository)
				continue
			case image.Platforms == nil && !(len(m.Rule.Platforms) == 1 && m.Rule.Platforms[0] == rule.PulledPlatforms):
				image.Platforms = m.Rule.Platforms
			}
		}
		t.Images = append(t.Images, image)
	}
	if at, ok := p.daily(); ok {
		t.Schedule, t.Jitter = at, atJitter
	} else if p.every.Duration > 0 {
		t.Schedule, t.Jitter = prefetch.Every(p.every.Duration), p.every.Duration/everyJitter
	}
	if p.jitter.line != 0 {
		t.Jitter = p.jitter.Duration
	}
	return t
}

// imagePattern matches the local name of an image: the repository, and its tag if it has one.
var imagePattern = regexp.MustCompile(`^([a-z0-9]+(?:[._/-]+[a-z0-9]+)*)(?::([A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?$`)

// parseImage reads REPOSITORY:TAG, REPOSITORY, for its latest, or REPOSITORY@DIGEST.
func parseImage(text string) (prefetch.Image, bool) {
	name, d, byDigest := strings.Cut(text, "@")
	parts := imagePattern.FindStringSubmatch(name)
	switch {
	case parts == nil, byDigest && parts[2] != "":
		return prefetch.Image{}, false
	case byDigest:
		_, err := digest.Parse(d)
		return prefetch.Image{Repository: parts[1], Reference: d}, err == nil
	case parts[2] == "":
		parts[2] = "latest"
	}
	return prefetch.Image{Repository: parts[1], Reference: parts[2]}, true
}

// newPrefetch returns the lists of the file.
func newPrefetch(list []prefetchConfig, rules *rule.Set, found *mistakes) (tasks []prefetch.Task) {
	for _, one := range list {
		tasks = append(tasks, one.task(rules, found))
	}
	return tasks
}

// texts returns the platforms for the library. If nil, none were given.
func (p platformsConfig) texts() (list []string) {
	for _, w := range p.list {
		if w.text != "" {
			list = append(list, w.text)
		}
	}
	return list
}

// check notes platforms that are not valid.
func (p platformsConfig) check(found *mistakes) {
	_, err := rule.NewSet(rule.Rule{Name: "x", Source: "localhost/x", Target: "x", Platforms: p.texts()})
	for _, one := range split(err) {
		if e, ok := one.(*rule.Error); ok && e.Field == "platforms" {
			found.add(p.wrong(), "%s", strings.TrimPrefix(e.Message, "Cache rule with platforms: "))
		}
	}
}
