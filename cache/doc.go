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
// A program ends in this order: the server first, so that clients get what they wait
// for, then the cache, then the receiver of its events, then the store.
//
// # Words
//
//   - A stored image is a manifest that is in the Store with everything that it names. To
//     copy is to make an image stored; a copy job is the copy of one manifest that is not
//     finished ([Cache.Copies]).
//   - A tag check is the request that asks the upstream whether a tag has moved.
//   - A sighting is the upstream's answer that a tag stands for a digest, at the time of
//     its tag check. A tag moves here by its newest sighting, when the image is stored.
//   - A flight is the download of one blob, with any number of clients and copies that
//     read from it.
//   - A slot is the right to do something that is bounded by [Limits]: to download, to
//     send a request to an upstream, to copy, to answer a list.
//   - A generation of a rule is its state between two changes, such as of its credential.
//     What was learned with one credential does not count for the next.
//   - The upstream, or source, of a rule is the remote repository that it maps to.
//
// # What a pull by tag gets
//
// With a stored image, the upstream is asked by HEAD whether the tag has moved, unless it
// was asked within [Cache.Freshness]. Clients that come at once share a tag check, which
// is never sent before their requests came; four at most are under way for a tag, so that
// nobody waits for the end of one that began too early. If the tag has the same digest,
// the stored image is served; if it has another one, that is served, and copied behind
// it. 404 gets the stored image, since deletes do not propagate; so do 401, 403 and other
// 4xx, unless the rule's RequireAccess or MaxStale forbids it; so does 429, after which
// the upstream is left alone for as long as it said; and so do 5xx, no connection, and no
// answer within [Limits.StaleTimeout].
//
// With [Cache.KeepBudget], the rest of what a host allows a credential to pull is kept for
// what is not stored. When the host says that no more than that is left, a tag is answered
// by what it was last seen to stand for, stored or being copied, with a Warning and
// detail=budget. Platforms and referrers that nobody has pulled are copied when there is
// more again. Whatever is not here, or is too old for the rule's MaxStale, is fetched.
//
// A HEAD is a saving, never a verdict: before a tag, a manifest or a blob counts as
// denied or missing, it was asked for by GET. What is known is not asked: a blob that
// a verified manifest names, or that is being downloaded, has its size for a HEAD
// too. The promise of a HEAD is kept: a digest that could not be had is remembered
// for its tag, and HEAD answers with what can be served.
//
// With nothing stored the upstream's answer streams through and is copied behind it; its
// refusal becomes 404, 403, 429, 502 or 504, with rule and source in the text ([Error]).
// A pull by digest of something stored asks nobody. A digest that the upstream has just
// said three times not to have is not asked for within the next second.
//
// A digest that is new to a tag is served and moves the tag only if [Cache.Admit] admits it.
// Meanwhile the tag stands for the former image, with detail=held; where there is none, the
// pull is refused with 403 and a text that says why and until when. [Cache.HeldTags] and
// [Cache.Explain] show what is held, [Cache.Held] is told, and [Cache.Reconsider] ends holds
// early. Pulls by digest are not gated. An Admit that takes its time makes no upstream look
// slow and takes no slot.
//
// A client that sends Cache-Control: only-if-cached (RFC 9111 section 5.2.1.7) gets what
// is here or 504, and no upstream is asked because of it, not even later. Manifests and
// blobs by digest are the stored ones. Tags and lists are the last that are known,
// whatever their age, unless the request says max-age or max-stale; one that was not
// checked within Freshness has a Warning, and is not sent where the rule's MaxStale or
// RequireAccess forbids it. A download that is under way is not here yet.
//
// Every answer for a repository that a rule covers says in Cache-Status (RFC 9211)
// what happened, and [Outcome] has the same for Observe:
//
//	hit                        it was stored, being copied (detail=copying) or kept from a
//	                           former read (detail=read); the upstream was not asked
//	fwd=request                the upstream was asked about the tag: detail=unchanged, or
//	                           detail=held if Admit kept the former digest
//	fwd=miss                   the upstream answered; stored: a download began, collapsed: it
//	                           was joined; detail=peer: another replica sends the blob, and
//	                           not the upstream
//	fwd=stale                  the stored image, since the upstream could not be asked
//	miss; detail=absent        the upstream has just said that it does not have the digest
//	fwd-status=N               the upstream's status; detail=timeout, unreachable, limited,
//	                           denied ... if there was none, budget if it was spared
//	hit; detail=only-if-cached what is known of a tag or a list, not checked on the client's wish
//	detail=only-if-cached      504: it is not here, and the client does not want it from elsewhere
//	detail=refused             this cache refused the request
//
// What is not stored yet also has X-Azure-Origin: upstream.
//
// # Lists
//
// A list is whole, or it says that it is not. Tags and referrers are the upstream's;
// while it cannot be asked, they are the last whole list that was seen, with fwd=stale and
// an Age; otherwise the client gets the error that a manifest would get. A subset is never
// a list, and an empty list never means that nothing is known.
//
// # What counts as pulled
//
// An image that belongs to no index is copied when its manifest is pulled. An image of an
// index is copied when a client asks for a layer that only it still lacks, or for all of
// its layers. A client that has the layers already asks for none: then the only image of
// the index whose manifest and config were read counts as pulled, a minute later. A client
// that reads the manifests of all images (ctr) shows by its layers which image it wants,
// so one that has all of them causes no copy. Manifests that were read are kept and can
// be read with the upstream gone; they are no stored images, and they have no event.
//
// # Many tenants
//
// What one rule, its upstream or its clients do stays with them. Trouble counts for the
// party that it comes from: the host of a rule where that host fails a request of this
// cache, the target of a redirect, a token server, a credential; never for the host
// because of what a client sent or because a client left. Slots, copy jobs and memory are
// shared fairly among rules ([Limits]). What several requests share is asked in the
// cache's own words. A download that drips, a client that stops reading, and a copy that
// brings nothing are ended or wait behind the others.
//
// Bytes that another repository has from the same host are not downloaded again if
// the host itself says that it has them for this rule, or, where it leads to a
// storage, if parts of them at random offsets come from there. Clients cannot see which
// of the two it was.
//
// # Parts that fail
//
// A Matcher or an Opener that fails hides nothing that is stored, as long as the last
// match of the name is known; the rest answers 503 with Retry-After, or 500. Every
// error of a Copier or a Sink means that nothing was taken over. Every error of Admit
// keeps the former digest, every error of Authorize refuses. What the errors of a Store
// and of a Repository mean is said at those types.
//
// # Without HTTP
//
// [Cache.Resolve], [Cache.Manifest] and [Cache.Blob] are a client's requests;
// [Cache.Prefetch] copies before a client pulls; [Cache.Tags], [Cache.Referrers],
// [Cache.Repositories] and [Cache.Manifests] list. [Cache.Repository] is a graph target of
// oras-go, [Cache.Transport] an http.RoundTripper for other clients. [Cache.Explain] says
// what a pull would do and why, [Cache.Copies] which copy jobs there are, [Cache.Idle]
// waits for them, [Cache.Retry] and [Cache.Delete] act on them, [Cache.Stats] counts. Tests
// get a cache and its upstream from package cachetest.
package cache
