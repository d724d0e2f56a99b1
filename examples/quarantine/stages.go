package main

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/internal/site"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook"
)

// stages are the vendor's registry, the stages that images pass, and what watches them.
type stages struct {
	vendor                      *upstreamtest.Registry
	quarantine, dev, test, prod *site.Site
	trail                       *trail
	scanner                     *scanner
	receiver                    *httptest.Server // of the audit trail and the scanner
	toReceiver                  *http.Transport

	folder string
	sites  []*site.Site // each before the one that it asks
}

// open starts everything. change, if not nil, may change a cache before it is used. After an
// error, what was started must be closed too.
func (st *stages) open(change func(name string, c *cache.Cache)) (err error) {
	if st.folder, err = os.MkdirTemp("", "pullthrough-quarantine-"); err != nil {
		return err
	}
	if st.vendor, err = upstreamtest.Start(); err != nil {
		return err
	}
	for _, s := range []struct {
		name string
		at   **site.Site
	}{{"prod", &st.prod}, {"test", &st.test}, {"dev", &st.dev}, {"quarantine", &st.quarantine}} {
		if *s.at, err = site.Open(s.name, st.folder); err != nil {
			return err
		}
		st.sites = append(st.sites, *s.at)
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it never fails
	st.trail = &trail{secret: "whsec_" + base64.StdEncoding.EncodeToString(key)}
	st.scanner = &scanner{trail: st.trail}
	mux := http.NewServeMux()
	mux.Handle("POST /audit/{stage}", st.trail)
	mux.Handle("POST /scanner", st.scanner)
	st.receiver, st.toReceiver = httptest.NewServer(mux), &http.Transport{}

	serve := func(s *site.Site, above string, c *cache.Cache, platforms ...string) {
		if err != nil {
			return
		}
		c.ID = s.Name
		if c.Rules, err = rule.NewSet(rule.Rule{Name: "promote", Source: above + "/*", Target: "*", Platforms: platforms}); err != nil {
			return
		}
		if change != nil {
			change(s.Name, c)
		}
		s.Outbox = st.outbox(s)
		err = s.Serve(c, above)
	}
	// Nobody pulls layers from quarantine, so its rule names what is copied. It is the fourth
	// cache of a request that production sends, which is one more than the default allows.
	st.scanner.quarantine = &cache.Cache{MaxHops: 4}
	serve(st.quarantine, st.vendor.Host(), st.scanner.quarantine, rule.AllPlatforms)
	serve(st.dev, st.quarantine.Address, &cache.Cache{Admit: st.trail.intoDev})
	serve(st.test, st.dev.Address, &cache.Cache{})
	serve(st.prod, st.test.Address, &cache.Cache{Admit: st.trail.intoProd})
	return err
}

// outbox delivers the events of a stage to the audit trail, and those of the quarantine to
// the scanner too. It keeps them in the store of the stage until they are delivered.
func (st *stages) outbox(s *site.Site) *webhook.Outbox {
	to := func(path string) *webhook.HTTP {
		return &webhook.HTTP{URL: st.receiver.URL + path, Secrets: []string{st.trail.secret}, Transport: st.toReceiver}
	}
	o := &webhook.Outbox{Records: s.Dir, Receivers: []webhook.Receiver{{Name: "audit", Sink: to("/audit/" + s.Name)}}}
	if s == st.quarantine {
		o.Receivers = append(o.Receivers, webhook.Receiver{Name: "scanner", Sink: to("/scanner")})
	}
	return o
}

// close ends the stages, the last one first, and removes their folder.
func (st *stages) close() (err error) {
	for _, s := range st.sites {
		err = errors.Join(err, s.Close())
	}
	if st.receiver != nil {
		st.toReceiver.CloseIdleConnections()
		st.receiver.Close()
	}
	if st.vendor != nil {
		st.vendor.Close()
	}
	return errors.Join(err, os.RemoveAll(st.folder))
}
