// Package azblob keeps what a cache copied in a container of Azure Blob Storage. Any number
// of replicas may share one container and prefix.
//
//	identity, err := azblob.ManagedIdentity(clientID, nil)
//	...
//	client, err := azblob.NewClient(azblob.ClientOptions{
//		URL:        "https://account.blob.core.windows.net/images",
//		Credential: identity,
//	})
//	...
//	st, err := azblob.New(azblob.Options{Client: client, Prefix: "cache", Replica: host})
//	...
//	err = st.Check(ctx)
//
// Any other azcore.TokenCredential will do, such as those of azidentity for workload
// identities and service principals; so will a key of the account, a SAS, or a connection
// string.
//
// # The account
//
// It is a general-purpose v2 or premium block blob account without a hierarchical namespace,
// which sorts lists in another way; [Store.Check] finds that. The identity needs the role
// Storage Blob Data Contributor (ba92f5b4-2d11-453d-a403-e96b0029c9fe) on the container; a
// SAS needs the permissions racwdl. The container must exist. It must have no immutability
// policy, and no lifecycle rule may delete blobs below the prefix or move them to the archive
// tier. With blob versioning or soft delete, every tag that moves and every record that is
// written leaves a version that is paid for until it expires; a store needs neither.
//
// # Layout
//
// Everything is a block blob below the prefix and the version of the layout, which is that
// of package store/s3.
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
// A part that ends with a dot, as that of a tag may, has a "!" behind it, since Azure forbids
// such names. Writes that depend on a condition leave a random mark in the metadata of the
// blob (pullthroughwrite), by which they know themselves when their response was lost and
// the repeated request is refused.
//
// Content of up to 8 MiB is written by one Put Blob, larger content in blocks that become a
// blob by one Put Block List, after its digest has matched; both on the condition that there
// is none. Each Writer holds 8 MiB. Blocks are named by their place and their hash, because
// all who write a blob share the blocks of it that are not committed: replicas that write
// one content at once write the same blocks, and wrong bytes never get into the blob of
// another writer. The writer that commits first discards the blocks of the others, who then find the
// blob.
//
// # What is not freed
//
// Delete takes away links and tags. The bytes stay, since another replica may be about to
// link them; so a container grows by what was ever copied. Blocks of uploads that were given
// up, or whose process died, vanish by themselves a week after the last one was written to
// that blob; nobody sees them, and they are paid for until then. A new try at the same
// content replaces them. So Sweep has nothing to do here and returns 0.
//
// # Failures
//
// A request that gets no response, or 408, 429 or 5xx, is repeated three times within a few
// seconds, as [ClientOptions] says; then the method fails, and a cache serves its clients
// from the upstream. A download that breaks off goes on where it was. 409 and 412 are
// failures of a condition only if Azure's code says so: a blob that somebody has leased, or
// that was archived, is a failure of the store. A container that is missing is one too, and
// not an empty store.
//
// # Clocks
//
// Which of two answers about a tag is the newer one is decided by the clocks of the replicas
// that asked: a clock that is a minute ahead keeps a tag for a minute from what the others
// find. Replicas need NTP. Nothing else of the store depends on a clock; the requests of a
// key are refused by Azure if the clock is wrong by more than 15 minutes.
//
// # Limits
//
// Content has 80,000 MiB at most; more is [store.ErrFull]. A name has 1,024 bytes, so the
// names of repositories have about 600 at most. A list that begins after a name reads
// everything before it: one request for each 5,000 names. There is no [store.Spooler]: a
// download lies in a temporary file of the process until it is whole, or in the near store of
// a tier.
//
// # Azurite
//
// The tests run against Azurite, Azure's emulator, if PULLTHROUGH_AZURITE names its script
// azurite-blob, or it is in the path:
//
//	azurite-blob --inMemoryPersistence --disableTelemetry --skipApiVersionCheck
//
// The container is then http://127.0.0.1:10000/devstoreaccount1/NAME, with the public key of that
// account. Other than Azure, it takes a blob of which there are only
// uncommitted blocks for one that is there. None of this was run against Azure itself.
package azblob
