// Package cache is the pull-through cache: an [http.Handler] that speaks the OCI
// distribution API under /v2/, and the same as Go methods.
//
//	c := &cache.Cache{Rules: rules, Store: dir, Logger: slog.Default()}
//	if err := c.Start(ctx); err != nil { // takes up what a former process left
//		return err
//	}
//	server := &http.Server{Addr: "localhost:5000", Handler: c}
//	...
//	err = errors.Join(server.Shutdown(ctx), c.Shutdown(ctx), outbox.Shutdown(ctx), dir.Close())
//
// Ending goes in this order: the server first, so that clients get what they wait
// for, then the cache, then who gets its events, then the store.
//
// # What a pull by tag gets
//
// With a complete copy here, the upstream is asked by HEAD whether the tag has
// moved, unless it was asked within [Cache.Freshness]. The same digest: the copy.
// Another: the new one, which is copied behind it. 404: the copy, since deletes do
// not propagate. 401, 403 and other 4xx: the copy, unless the rule's RequireAccess
// or MaxStale forbids it. 429: the copy, and the upstream is left alone for as long
// as it asked. 5xx, no connection, or no answer for 2 seconds: the copy.
//
// A HEAD is a saving, never a verdict: before a tag, a manifest or a blob counts as
// denied or missing it was asked for by GET. What is known is not asked: a blob that
// a verified manifest names, or that is being downloaded, has its size for a HEAD
// too. The promise of a HEAD is kept: a digest that could not be had is remembered
// for its tag, and HEAD answers with what can be served.
//
// With nothing complete here the upstream's answer streams through and is copied
// behind it; its refusal becomes 404, 403, 429, 502 or 504, with rule and source in
// the text ([Error]). A pull by digest that is complete here asks nobody. A digest
// that the upstream has just said three times not to have is not asked for within the
// next second.
//
// Every answer for a repository that a rule covers says in Cache-Status (RFC 9211)
// what happened; what is no complete copy yet also has X-Azure-Origin: upstream.
//
// # Lists
//
// A list is whole, or it says that it is not. Tags and referrers are the upstream's;
// while it cannot be asked, the last whole list that was seen, with fwd=stale and an
// Age; otherwise the error that a manifest would get. A subset is never a list, and
// an empty list never means that nothing is known.
//
// # What counts as pulled
//
// An image that belongs to no index is copied when its manifest is pulled. One of an
// index is copied when a client asks for a layer that only it still lacks, or for all
// of its layers. A client that has the layers already asks for none: then the only
// image of the index whose manifest and config were read counts as pulled, a minute
// later. Of a client that reads the manifests of all images (ctr) the layers tell, so
// one that has all of them causes no copy. Manifests that were read are kept and can
// be read with the upstream gone; they are no complete images, and no event tells of
// them.
//
// # Many tenants
//
// What one rule, its upstream or its clients do stays with them. Trouble counts for
// whose it is: the host of a rule where that host fails a question of this cache, the
// target of a redirect, a token server, a credential; never for the host because of
// what a client sent or because a client left. Places, copies and memory are shared
// fairly among rules ([Limits]). What several requests share is asked in the cache's
// own words. A download that drips, a client that stops reading, and a copy that
// brings nothing are ended or wait behind the others.
//
// Bytes that another repository has from the same host are not downloaded again if
// the host itself says that it has them for this rule, or, where it leads to a
// storage, if parts of them at random places come from there. Clients are not told
// which it was.
//
// # Parts that fail
//
// A Matcher or an Opener that fails hides nothing that is stored, as long as the last
// match of the name is known; the rest answers 503 with Retry-After, or 500. Every
// error of a Copier or a Sink means that nothing was taken over. Every error of Admit
// keeps the former digest, every error of Authorize refuses. The errors of a Store and
// of a Repository are told at those types.
//
// # Without HTTP
//
// [Cache.Resolve], [Cache.Manifest] and [Cache.Blob] are a client's requests;
// [Cache.Prefetch] copies before anybody pulls; [Cache.Repository] is an oras
// target. [Cache.Explain] says what a pull would do and why, [Cache.Copies] what is
// on its way, [Cache.Retry] and [Cache.Delete] act on it, [Cache.Stats] counts.
package cache
