// Package fleet makes several replicas of a cache share their downloads: one of them
// fetches a blob from its upstream, and the clients of all get it while it comes.
//
//	client ──▶ replica A ── GET, Range ──▶ replica B ──▶ upstream
//	client ──▶ replica C ── GET, Range ──▶     │
//	client ──────────────────────────────▶─────┘
//
// A [Fleet] is an [upstream.Opener] around the one that asks the upstreams, and a handler
// for the other replicas, on a listener of its own:
//
//	f := &fleet.Fleet{Self: "10.0.0.7:5443", Peers: (&fleet.DNS{Host: "cache-peers", Port: "5443"}).Peers, TLS: clientTLS, Secret: secret}
//	c := &cache.Cache{ID: "cache.example.com", Rules: rules, Store: dir, Upstream: f.Opener(&upstream.Client{})}
//	server := f.Server(c)
//	server.Addr, server.TLSConfig = ":5443", serverTLS
//	go server.ListenAndServeTLS("", "")
//
// All replicas have the same rules and the same [cache.Cache.ID], which tells a loop of
// caches from a fleet. Each has a store of its own, or they share one.
//
// # How a blob is found
//
// Replicas agree on nothing. Each ranks all of them by a hash of the blob and the replica
// (rendezvous hashing), asks those that come before itself, and fetches the blob itself if
// none of them brings it. Before it does, for its own clients or for another replica, it asks
// the first five others whether one of them has begun, so that lists that differ for a while,
// after a restart or a join, cost nothing. If one of the five, or the one that should fetch the
// blob, does not answer, it asks all. Of two that ask one another at once, the one of the lower
// rank gives way, and asks again before it fetches anything. That is a hint and no lock:
// content is addressed by its digest, and each replica verifies what it gets. Two that fetch
// the same cost traffic, and never wrong bytes.
//
//   - A replica that follows another one says whom it follows, and is not followed itself. Only
//     to one that does not reach that other one, it sends on what comes.
//   - A replica begins to follow only while nobody follows it, and is followed only when the
//     blob comes. So there are no cycles, whatever each believes.
//   - A replica that is not in the list of another one, and asks it, is known to it from then on,
//     for a minute: lists need not be up to date on all.
//   - One that is silent is asked whether it lives. If it does, its upstream is slow, and its
//     followers wait. If not, they go on with the next one, each from where it is.
//   - One that does not answer, or takes the asking one for a stranger, is passed over until
//     it answers.
//   - One whose connection breaks off in the middle of a blob, or whose bytes had the wrong
//     digest, is passed over for that blob for a while. If it did not have the blob itself
//     then, and has stored it since, it is as good as any other one.
//   - One that was stopped for a while, or whose upstream is slow, asks whether another one
//     has gone on meanwhile, and follows that one.
//
// What goes wrong between replicas never reaches a client: at worst, each replica fetches
// for itself. Manifests and tags are not shared, only blobs.
//
// # One copy, one set of events
//
// With a store that all replicas share, Copier lets one of them copy an image and send its
// events, the first in the rank of the manifest, and Deleted has all of them forget what one
// of them deletes:
//
//	c.Copier, c.Deleted = f.Copier(c), f.Deleted
//
// Each of the others that the image was pulled from is a witness: it keeps a record of the
// copy until the events are sent and, if their sink is a webhook.Outbox or another
// webhook.Waiter, delivered or given up. If the one that copies does not answer for 5
// seconds, or comes back with nothing, the next one takes the copy over, with the same IDs of
// its events. If the copy is done and the events wait for their receivers, it has 2 minutes
// to come back, since it may have them on its disk. So:
//
//	what happens                                        its events
//	nothing, or the one that copies dies and comes      once
//	back with its records, soon or late
//	it dies and is lost, before the events are sent     once, by a witness
//	it dies while the events wait in its Outbox, and
//	- comes back with its records within 2 minutes      once
//	- comes back with them later                        twice, with one ID
//	- is lost with them                                 once, by a witness, a few minutes later
//	it dies between sending the events and noting that  twice, with one ID
//	it dies, for more than 5 seconds or for good,       twice, with one ID
//	before its witnesses have heard that the events
//	were delivered: 15 seconds at most, or 150 if the
//	events had to wait for their receivers
//	it is lost before it answered the replica that      twice, perhaps with two IDs
//	gave it the copy
//	two cannot reach one another and both copy          that of the tag once if the store is
//	                                                    a store.Mover; the other one once, or
//	                                                    twice if both link the manifest at once
//	the image was pulled from one replica only, which   lost, if that is what copies it
//	is lost with its records
//	it is lost with its Outbox, and its witnesses had   lost, as far as they were not delivered
//	no room for jobs that are done, or its Outbox is
//	behind a sink that is no webhook.Waiter
//
// A witness of events that wait asks about them ever more seldom, every 2 minutes in the end,
// and for a week at most. Such jobs make room before all others (see [cache.Limits]), and
// nothing waits for them. An Outbox without Records loses its events with its process.
//
// A deletion ends copies on all replicas that answer, before anything is deleted. A replica
// that is away hears of it when it asks the others about the copy that it has; it moves a
// tag again that was deleted alone, if nobody could tell it within 10 minutes. From the
// beginning to the end of the deletion of a repository, but for no longer than 5 minutes,
// replicas keep nothing of what is pulled into it. A replica that is writing to the object
// store for more than a second after it was told may leave blobs there that no manifest names.
//
// # What replicas say to one another
//
// HTTP/1.1, below /fleet/v1/, which is the version of the protocol: replicas of another
// version get a 404, and each then fetches for itself. Every request names its sender
// (Pullthrough-Peer) and proves that it is a replica: by the Secret as a bearer token, or by
// what Trust accepts, such as a client certificate. Without that it gets 401, before
// anything is looked up.
//
//	GET  REPOSITORY/blobs/DIGEST   with Pullthrough-Source: RULE HOST/REPOSITORY, Cdn-Loop and perhaps Range, and
//	                               Pullthrough-Without: the replicas that the asking one does not reach, or that lack the blob
//	                               200, 206: the blob, as a client would get it; with Pullthrough-Front if it is still coming
//	                               409: Pullthrough-Holder names the replica that this one follows itself, or that has begun
//	                               503: no slot is free, the replica is leaving, or its upstream has just refused
//	                               404 and others: what its upstream said, or no rule has that source here
//	HEAD REPOSITORY/blobs/DIGEST   200: it has the blob, brings it or sends it on, with Pullthrough-Front if it is coming;
//	                               409: as above; 404: neither. No upstream is asked.
//	POST copies                    a cache.Job: 202 with its ID: it is written down; 410: deleted; 409: it is not
//	                               taken; 503: no room, or leaving
//	POST copies/state              a cache.Job without its manifest: 200 with a cache.JobStatus
//	POST forget                    a cache.Deletion: 204
//	GET  ping                      204
//
// # Security
//
// The peer listener serves every blob that a rule covers, to every replica: a party that has the
// Secret, or a certificate that Trust accepts, reads all of them. With Copier and Deleted,
// it may also delete, and have images stored, and tags of a rule moved to them: a replica
// believes another one about what the upstream says of tags and manifests. It checks the
// digest of a manifest, and fetches the blobs from the upstream itself; it does not ask the
// upstream whether it has that manifest, or whether the tag stands for it. REPOSITORY is
// matched with the receiver's own rules, which must lead to exactly that source; the
// receiver uses its own credentials, and none of them travels. Whether a client may read a
// blob is decided by the replica that the client talks to, by its own Authorize, before it asks
// another one.
package fleet
