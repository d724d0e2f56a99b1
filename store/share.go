package store

import (
	"context"

	"github.com/opencontainers/go-digest"
)

// Sharer is an optional ability of a [Store]: it may be one that other processes read and
// write too, such as one in an object store. A store without it belongs to its process
// alone. What is remembered of a shared store may be out of date.
type Sharer interface {
	// Shared reports whether other processes read and write the store. It is always the
	// same for one store.
	Shared() bool
}

// Tiered is an optional ability of a [Store] that has copies of its content in a near
// store, which belongs to this process and can give them up. [Tier] has it.
type Tiered interface {
	// NearStore returns the near store: eviction lists it, measures it and gives up what
	// is in it. What is deleted there is still in the Store.
	NearStore() Store
	// Backed reports whether content of a repository is in the Store whatever the near
	// store does. The answer may be some time old: what was deleted by another process
	// meanwhile may still count as there. It returns an error if that cannot be found out.
	Backed(ctx context.Context, repo string, d digest.Digest) (bool, error)
	// Forget gives up what is near and what is remembered of a tag or a digest of a
	// repository, or, if reference is empty, of the whole repository, after another process
	// has deleted it. What is not there is no error. A near store that cannot delete is an
	// error that wraps [errors.ErrUnsupported].
	Forget(ctx context.Context, repo, reference string) error
	// Arrived notes that another process has brought content to a repository, so that what
	// is remembered of its absence is forgotten.
	Arrived(repo string, d digest.Digest)
}

// IsShared reports whether other processes may read and write s too: see [Sharer].
func IsShared(s Store) bool {
	sharer, ok := As[Sharer](s)
	return ok && sharer.Shared()
}

// relay is a store whose abilities are those of the stores that it passes calls on to.
type relay interface {
	// relays reports whether the store has an ability, given as a nil pointer to its
	// interface. It is asked about interfaces that the store implements.
	relays(ability any) bool
}
