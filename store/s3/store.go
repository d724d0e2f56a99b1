package s3

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/pullthrough/pullthrough/internal/objectstore"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/store/s3/internal/bucket"
)

// ErrUnconditional reports a server that does not honour the conditions of writes. Tags that
// several replicas move there may go backwards.
var ErrUnconditional = objectstore.ErrUnconditional

// Options are what a Store is made of.
type Options struct {
	// Client speaks to the server; see [NewClient] for what one needs that is made in
	// another way. It must not be nil.
	Client *s3.Client
	// Bucket is the name of the bucket, which must exist. It must not be empty.
	Bucket string
	// Prefix is what all keys begin with: a path of A-Z, a-z, 0-9, '.', '_' and '-' whose
	// parts begin without a dot, of 128 bytes at most. Replicas that share a store have
	// the same. If empty, the store begins at the root of the bucket.
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

// Store is a [store.Store] in a bucket. It has the abilities [store.Sharer], [store.Mover],
// [store.Records], [store.Deleter], [store.Lister], [store.ManifestLister] and
// [store.BlobLister]. It is safe for concurrent use.
//
// Errors name the bucket and the key, and have no credentials. Besides the errors of package
// store they wrap those of the client.
type Store struct{ *core }

var (
	_ store.Store          = (*Store)(nil)
	_ store.Mover          = (*Store)(nil)
	_ store.Sharer         = (*Store)(nil)
	_ store.Records        = (*Store)(nil)
	_ store.Deleter        = (*Store)(nil)
	_ store.Lister         = (*Store)(nil)
	_ store.ManifestLister = (*Store)(nil)
	_ store.BlobLister     = (*Store)(nil)
)

// New returns a Store. It asks the server nothing, so that a program can start while the
// server is away; see [Store.Check].
func New(o Options) (*Store, error) {
	if o.Client == nil || o.Bucket == "" {
		return nil, errors.New("s3: the client or the name of the bucket is missing")
	}
	c, err := objectstore.New(objectstore.Config{
		Bucket: &bucket.Bucket{Client: o.Client, Name: o.Bucket},
		Prefix: o.Prefix, Replica: o.Replica, Logger: o.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("s3: %w", err)
	}
	return &Store{c}, nil
}
