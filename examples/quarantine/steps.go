package main

import (
	"context"
	"net/http"

	"github.com/pullthrough/pullthrough/examples/internal/narrate"
	"github.com/pullthrough/pullthrough/examples/internal/site"
)

// quarantined runs a pull that brings a version into quarantine, and waits for the verdict.
// The scanner begins when the client has its answer, since it could be the faster one.
func (s *story) quarantined(ctx context.Context, version int, verdict string, pull func()) {
	s.scanner.turn.Lock()
	pull()
	s.scanner.turn.Unlock()
	s.happened(ctx, "quarantine", push, version)
	s.happened(ctx, "scanner", verdict, version)
}

// intake shows that the pull which is refused fetches a new image into quarantine.
func (s *story) intake(ctx context.Context) {
	s.quarantined(ctx, 1, clean, func() { s.refused(ctx, s.dev, stable, "has not been scanned yet") })
	s.vendorWas(ctx, site.Asked{Manifests: 2, Blobs: 3, Bytes: s.base() + s.own(1)})
	s.check(s.trail.pushes("dev") == 0, "development has something already")
}

// development shows that the gate lets a clean image in, and that it comes from quarantine.
func (s *story) development(ctx context.Context) {
	s.gets(ctx, s.dev, stable, 1, fetched)
	s.happened(ctx, "dev", push, 1)
	s.vendorWas(ctx, site.Asked{Heads: 1})
}

// promotion shows that a pull brings an image to the next stage, and that no stage can be
// left out.
func (s *story) promotion(ctx context.Context) {
	s.refused(ctx, s.prod, stable, "test has not pulled it yet")
	s.gets(ctx, s.test, stable, 1, fetched)
	s.happened(ctx, "test", push, 1)
	s.refused(ctx, s.prod, stable, "there is time for objections")
	s.objectionsEnd(ctx, 1)
	s.gets(ctx, s.prod, stable, 1, fetched)
	s.happened(ctx, "prod", push, 1)
	if s.err != nil {
		return
	}
	requests := s.vendor.Requests()
	passed := requests[len(requests)-1].Header.Get("CDN-Loop")
	s.vendorWas(ctx, site.Asked{Heads: 4})
	s.Line("", "Each pull asks every stage before it, and then the vendor, whether the tag has moved. CDN-Loop of the last: %s", passed)
	s.check(passed == "prod, test, dev, quarantine", "CDN-Loop is %q", passed)
}

// badImage shows that a bad image stays in quarantine: under a tag that was good, for which
// all stages serve the former image, and under a new one, for which they have none.
func (s *story) badImage(ctx context.Context) {
	s.publish("version 2, with "+marker, stable, "2.0")
	s.quarantined(ctx, 2, rejected, func() { s.gets(ctx, s.dev, stable, 1, held) })
	s.gets(ctx, s.dev, stable, 1, held)
	s.explained(ctx)
	s.gets(ctx, s.test, stable, 1, unchanged)
	s.gets(ctx, s.prod, stable, 1, unchanged)
	s.vendorWas(ctx, site.Asked{Heads: 4, Manifests: 2, Blobs: 2, Bytes: s.own(2)})
	s.refused(ctx, s.dev, "2.0", "the scanner has rejected it")
	s.vendorWas(ctx, site.Asked{Manifests: 1})
	s.refused(ctx, s.prod, "2.0", "refuses this pull")
	s.Line("", "A cache does not repeat the words of another one. Dev says why, and so does the audit trail.")
	s.vendorWas(ctx, site.Asked{Heads: 1})
}

// explained prints what the cache of development says about the tag.
func (s *story) explained(ctx context.Context) {
	if s.err != nil {
		return
	}
	x, err := s.dev.Cache.Explain(ctx, app, stable)
	s.fail(err)
	s.Line("dev", "Explain says: %s", x.Text)
	s.check(x.Held == s.version(2), "development holds %q", x.Held)
}

// byDigest shows what the gates do not guard.
func (s *story) byDigest(ctx context.Context) {
	d := s.version(2)
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, s.prod.Client.Base+"/v2/"+app+"/manifests/"+d.String(), nil)
	if s.fail(err); err != nil {
		return
	}
	resp, err := s.prod.Client.HTTP.Do(req)
	if s.fail(err); err != nil {
		return
	}
	s.fail(resp.Body.Close())
	s.Line("prod", "HEAD %s@%s (version 2): %s", app, narrate.Brief(d), resp.Status)
	s.Line("", "A gate decides what a tag stands for. A digest names one image for ever, and a client that knows it gets the image "+
		"at any stage: a GET would copy it, and the audit trail would have a push without a tag. "+
		"Where that is too much, cache.Cache.Authorize can refuse digests that it does not know.")
	s.check(resp.StatusCode == http.StatusOK, "the digest is refused")
	s.vendorWas(ctx, site.Asked{})
}

// goodAgain shows that tags move to the next clean image, and that production serves the
// former one until its gate lets the new one in.
func (s *story) goodAgain(ctx context.Context) {
	s.publish("version 3", stable)
	s.quarantined(ctx, 3, clean, func() { s.gets(ctx, s.dev, stable, 1, held) })
	s.gets(ctx, s.dev, stable, 3, moved)
	s.happened(ctx, "dev", push, 3)
	s.gets(ctx, s.test, stable, 3, moved)
	s.happened(ctx, "test", push, 3)
	s.gets(ctx, s.prod, stable, 1, held)
	s.objectionsEnd(ctx, 3)
	s.gets(ctx, s.prod, stable, 3, moved)
	s.happened(ctx, "prod", push, 3)
	s.vendorWas(ctx, site.Asked{Heads: 5, Manifests: 2, Blobs: 2, Bytes: s.own(3)})
}
