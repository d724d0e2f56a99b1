// Package objectstore keeps what a cache copied in a bucket of an object store, which many
// replicas share. It is what store/s3 and store/azblob have in common: they are adapters of
// [Bucket].
//
// # Layout
//
// Everything is an object below the prefix of the [Store] and the version of the layout,
// and nothing is locked.
//
//	v1/blobs/ALG/HEX                     the bytes of all content, immutable
//	v1/origins/ALG/HEX/HASH              they came from the origin whose hash that is
//	v1/layers/NAME!/ALG-HEX              a link: content of a repository that is no manifest
//	v1/images/NAME!/manifests/ALG-HEX    a link of a manifest
//	v1/images/NAME!/tags/TAG             where a tag points
//	v1/referrers/NAME!/ALG-HEX/ALG-HEX   a manifest that once had that subject
//	v1/records/REPLICA/KIND/KEY          a record of one replica
//	v1/check/RANDOM                      what [Store.Check] tries
//
// Links and tags are JSON. An exclamation mark ends the name of a repository, since it comes
// before all characters of names in the order of bytes: so keys have the order of the names,
// a repository that is below another one in name is beside it in keys, and no key is the
// folder of another one, which stores on file systems could not keep.
//
// # Why no lock is needed
//
// Bytes are named by their digest, so it does not matter whose are there. Content is visible
// by its link, which is written last, as a whole, and by one request. Links of manifests and
// of other content have keys of their own and a manifest hides a layer of the same digest,
// so nobody has to read a link before he writes one: content that is linked as a manifest
// stays one because the other link is not looked at. Lists are the links themselves. Only
// those of referrers are hints, which may be there without a link and are then passed over;
// a hint is written before its link and never removed.
//
// Tags alone have to be compared with what is there: MoveTag reads the tag and writes it on
// condition that it has not changed, and begins anew if it has. Which of two answers is the
// later one is decided by [store.Tag.Replaces], by the clocks of the replicas that asked.
// Nothing else here depends on a clock.
package objectstore
