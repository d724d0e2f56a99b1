package objectstore

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/store"
)

// Store is a [store.Store] in a Bucket. It is safe for concurrent use, also by many
// processes that have one bucket and prefix.
type Store struct {
	bucket  Bucket
	root    string // what every key begins with
	replica string
	log     *slog.Logger
}

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

// Config is what a Store is made of.
type Config struct {
	// Bucket is where everything lies. It must not be nil.
	Bucket Bucket
	// Prefix is what every key begins with. A slash is added unless it ends with one. It
	// has at most 128 bytes, and the characters and parts that a Bucket allows. If empty,
	// keys begin with the version of the layout.
	Prefix string
	// Replica names the process whose records these are: a word as [store.Records]
	// describes it. If empty, methods of Records return an error.
	Replica string
	// Logger gets what counts as missing because it is damaged. If nil, nothing is logged.
	Logger *slog.Logger
}

// maxPrefix leaves room for the names of repositories.
const maxPrefix = 128

// New returns a Store. It asks the server nothing.
func New(c Config) (*Store, error) {
	prefix := strings.TrimSuffix(c.Prefix, "/")
	if prefix != "" {
		if err := checkPrefix(prefix); err != nil {
			return nil, err
		}
		prefix += "/"
	}
	if c.Replica != "" {
		if err := store.CheckRecord(c.Replica, c.Replica); err != nil {
			return nil, fmt.Errorf("the replica %.64q is not a word of A-Z, a-z, 0-9, '.', '_' and '-' that begins without a dot", c.Replica)
		}
	}
	log := c.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Store{bucket: c.Bucket, root: prefix + "v1/", replica: c.Replica, log: log}, nil
}

func checkPrefix(prefix string) error {
	if len(prefix) > maxPrefix {
		return fmt.Errorf("the prefix %.32q... is longer than %d bytes", prefix, maxPrefix)
	}
	for part := range strings.SplitSeq(prefix, "/") {
		if part == "" || part[0] == '.' || strings.Trim(part, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") != "" {
			return fmt.Errorf("the prefix %q is no path of A-Z, a-z, 0-9, '.', '_' and '-' whose parts begin without a dot", prefix)
		}
	}
	return nil
}

// String names the store for messages.
func (s *Store) String() string { return s.bucket.String() + "/" + s.root }

// Shared implements [store.Sharer]: other processes may write the store, always.
func (s *Store) Shared() bool { return true }

// key returns a key. The longest names of repositories are too long for it.
func (s *Store) key(parts ...string) (string, error) {
	key := s.root + strings.Join(parts, "/")
	if len(key) > MaxKey {
		return "", fmt.Errorf("%s: the key %.64q... has %d bytes, and may have %d", s.bucket, key, len(key), MaxKey)
	}
	return key, nil
}

// word returns a digest as a part of a key.
func word(d digest.Digest) string { return d.Algorithm().String() + "-" + d.Encoded() }

// fromWord returns the digest of a part of a key. ok is false if it is none: servers on file
// systems list their temporary files.
func fromWord(w string) (d digest.Digest, ok bool) {
	algorithm, hex, _ := strings.Cut(w, "-")
	d = digest.NewDigestFromEncoded(digest.Algorithm(algorithm), hex)
	return d, store.CheckContent("a", d) == nil
}

// blobKey is the key of bytes. It is always short enough.
func (s *Store) blobKey(d digest.Digest) string {
	return s.root + "blobs/" + d.Algorithm().String() + "/" + d.Encoded()
}

func (s *Store) linkKey(repo string, d digest.Digest, manifest bool) (string, error) {
	if manifest {
		return s.key("images", repo+"!", "manifests", word(d))
	}
	return s.key("layers", repo+"!", word(d))
}

func (s *Store) tagKey(repo, tag string) (string, error) {
	return s.key("images", repo+"!", "tags", tag)
}

func (s *Store) referrerKey(repo string, subject, d digest.Digest) (string, error) {
	return s.key("referrers", repo+"!", word(subject), word(d))
}

// checkContent checks the arguments that every call about content has.
func checkContent(ctx context.Context, repo string, d digest.Digest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return store.CheckContent(repo, d)
}

// checkInfo checks what is about to be written or linked.
func checkInfo(ctx context.Context, repo string, want store.Info) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return store.CheckInfo(repo, want)
}
