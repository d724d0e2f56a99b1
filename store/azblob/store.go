package azblob

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/pullthrough/pullthrough/internal/objectstore"
	"github.com/pullthrough/pullthrough/store"
)

// ErrUnconditional reports a server that does not honour the conditions of writes. Tags that
// several replicas move there may go backwards.
var ErrUnconditional = objectstore.ErrUnconditional

// Options are what a Store is made of.
type Options struct {
	// Client speaks to the container, which must exist; see [NewClient]. It must not be
	// nil.
	Client *container.Client
	// Prefix is what the names of all blobs begin with: a path of A-Z, a-z, 0-9, '.', '_'
	// and '-' whose parts begin without a dot, of 128 bytes at most. Replicas that share a
	// store have the same. If empty, the store begins at the root of the container.
	Prefix string
	// Replica is the name of this process among those that share the store: a word as
	// [store.Records] describes it. It stays the same over restarts. Two processes must
	// not have the same, or they take up one another's records. If empty, the methods of
	// Records return an error, as befits the far store of a tier, whose near one has the
	// records.
	Replica string
	// Logger gets what counts as missing because it is damaged. If nil, nothing is logged.
	Logger *slog.Logger
}

type core = objectstore.Store

// Store is a [store.Store] in a container. It has the abilities [store.Records],
// [store.Deleter], [store.Lister], [store.ManifestLister] and [store.BlobLister], and it says
// by its method Shared that other processes may write it, too. It is safe for concurrent use.
//
// Errors name the container and the blob, the status and Azure's code, and have neither
// credentials nor the texts of Azure's responses. They wrap the errors of package store and
// of contexts, and none of the SDK, which hold the requests.
type Store struct {
	*core
	bucket *bucket
}

var (
	_ store.Store          = (*Store)(nil)
	_ store.Records        = (*Store)(nil)
	_ store.Deleter        = (*Store)(nil)
	_ store.Lister         = (*Store)(nil)
	_ store.ManifestLister = (*Store)(nil)
	_ store.BlobLister     = (*Store)(nil)
)

// New returns a Store. It asks the service nothing, so that a program can start while the
// service is away; see [Store.Check].
func New(o Options) (*Store, error) {
	if o.Client == nil {
		return nil, errors.New("azblob: the client is missing")
	}
	b := newBucket(o.Client)
	c, err := objectstore.New(objectstore.Config{Bucket: b, Prefix: o.Prefix, Replica: o.Replica, Logger: o.Logger})
	if err != nil {
		return nil, fmt.Errorf("azblob: %w", err)
	}
	return &Store{c, b}, nil
}
