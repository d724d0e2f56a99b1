// Package pullthrough is the front page of a library that puts a pull-through
// cache for container images and other OCI artifacts into a Go program. It has
// no API of its own; the packages below it do.
//
// # The model
//
// A rule says that pulls of a local repository come from an upstream one, and
// how to prove oneself there. The first pull streams through while a copy is
// made behind it. Later pulls are local, after a HEAD that asks whether the tag
// has moved. Deletes upstream do not propagate; an upstream that is down, slow
// or refuses does not stop what is complete here.
//
// What is stored is complete: a manifest is linked in a repository after all
// that it names, and a tag moves after its manifest. Of an index, the platforms
// that were pulled are copied, and the index itself byte for byte.
//
// A blob is downloaded once, however many clients want it. They read what has
// come while the rest is on its way, at any offset; nobody gets the last bytes
// before the digest has matched. A download belongs to no request: who leaves
// does not stop it, who dawdles does not slow it, and a cut, upstream or here,
// costs only what had not been kept.
//
// Nothing learned for one rule is used for another. Bytes may be shared on disk;
// the right to read them is earned by each repository.
//
// # A program
//
//	rules, err := rule.NewSet(rule.Rule{
//		Name: "docker-hub", Source: "docker.io/*", Target: "hub/*",
//	})
//	if err != nil {
//		log.Fatal(err)
//	}
//	dir, err := store.OpenDir("images")
//	if err != nil {
//		log.Fatal(err)
//	}
//	c := &cache.Cache{Rules: rules, Store: dir}
//	log.Fatal(http.ListenAndServe("localhost:5000", c))
//
// # The packages
//
//   - rule: which upstream repository a local one stands for
//   - auth: what a rule shows to its upstream; auth/azure: managed identities,
//     service principals and Key Vault, for registries of Azure; auth/azuretest
//     fakes all that
//   - upstream: the client that reads from registries; upstream/upstreamtest is a
//     fake registry with faults, for your tests too
//   - store: what was copied; Mem and Dir, and store/storetest for stores of your
//     own; Tier, a near store before a far one. store/s3 and store/azblob are
//     modules of their own
//   - cache: the http.Handler, and the same as Go methods; cache/cachetest gives
//     tests a cache and its upstream in one line; cache/fleet has replicas share
//     downloads and copies
//   - webhook: who is told when a copy is complete, durably and at least once;
//     webhook/webhooktest receives events in tests
//   - examples: programs to run
package pullthrough
