package main

import (
	"context"
	"errors"
	"os"
	"strings"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/internal/site"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// stage is the registry and the caches.
type stage struct {
	registry                                  *upstreamtest.Registry
	hub, east, west, leafEast, leafWest, edge *site.Site

	folder string
	sites  []*site.Site // each before the one that it asks
}

// open starts everything. change, if not nil, may change a cache before it is used. After an
// error, what was started must be closed too.
func (st *stage) open(change func(name string, c *cache.Cache)) (err error) {
	if st.folder, err = os.MkdirTemp("", "pullthrough-hubspoke-"); err != nil {
		return err
	}
	if st.registry, err = upstreamtest.Start(); err != nil {
		return err
	}
	for _, s := range []struct {
		name string
		at   **site.Site
	}{{"edge", &st.edge}, {"leaf-east", &st.leafEast}, {"leaf-west", &st.leafWest}, {"east", &st.east}, {"west", &st.west}, {"hub", &st.hub}} {
		if *s.at, err = site.Open(s.name, st.folder); err != nil {
			return err
		}
		st.sites = append(st.sites, *s.at)
	}
	serve := func(s *site.Site, rules ...rule.Rule) {
		if err == nil {
			err = newCache(s, change, rules)
		}
	}
	serve(st.hub,
		rule.Rule{Name: "golden", Source: st.registry.Host() + "/golden/*", Target: "golden/*"},
		// A mistake: the hub asks a cache that asks the hub.
		rule.Rule{Name: "mistake", Source: st.east.Address + "/loop/*", Target: "loop/*"})
	serve(st.east, all(st.hub))
	serve(st.west, all(st.hub))
	serve(st.leafEast, all(st.east))
	serve(st.leafWest, all(st.west))
	serve(st.edge, all(st.leafEast))
	return err
}

// all is the rule of a cache below another one: everything comes from there, under the same
// name.
func all(above *site.Site) rule.Rule {
	return rule.Rule{Name: "from-" + above.Name, Source: above.Address + "/*", Target: "*"}
}

// newCache makes the cache of a site, and serves it.
func newCache(s *site.Site, change func(name string, c *cache.Cache), rules []rule.Rule) error {
	set, err := rule.NewSet(rules...)
	if err != nil {
		return err
	}
	// MaxHops is left at its default, three levels. The ID is what a cache adds to the
	// CDN-Loop header of the requests that it sends on; without one it would be random.
	c := &cache.Cache{Rules: set, ID: s.Name}
	if change != nil {
		change(s.Name, c)
	}
	var above []string
	for _, r := range rules {
		host, _, _ := strings.Cut(r.Source, "/")
		above = append(above, host)
	}
	return s.Serve(c, above...)
}

// reset begins to count anew at every level.
func (st *stage) reset() {
	st.registry.Reset()
	for _, s := range st.sites {
		s.Reset()
	}
}

// settle waits until nothing is under way at any level. A cache that is idle asks nothing of
// the next one.
func (st *stage) settle(ctx context.Context) error {
	for _, s := range st.sites {
		if err := s.Settle(ctx); err != nil {
			return err
		}
	}
	return nil
}

// close ends the caches, the lowest first, and removes their folder.
func (st *stage) close() (err error) {
	for _, s := range st.sites {
		err = errors.Join(err, s.Close())
	}
	if st.registry != nil {
		st.registry.Close()
	}
	return errors.Join(err, os.RemoveAll(st.folder))
}
