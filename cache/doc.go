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
// With nothing complete here the upstream's answer streams through and is copied
// behind it; its refusal becomes 404, 403, 429, 502 or 504, with rule and source in
// the text ([Error]). A pull by digest that is complete here asks nobody.
//
// Every answer for a repository that a rule covers says in Cache-Status (RFC 9211)
// what happened; what is no complete copy yet also has X-Azure-Origin: upstream.
//
// # Without HTTP
//
// [Cache.Resolve], [Cache.Manifest] and [Cache.Blob] are a client's requests;
// [Cache.Prefetch] copies before anybody pulls; [Cache.Repository] is an oras
// target. [Cache.Explain] says what a pull would do and why, [Cache.Copies] what is
// on its way, [Cache.Retry] and [Cache.Delete] act on it, [Cache.Stats] counts.
package cache
