package cache

import (
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/ledger"
	"github.com/pullthrough/pullthrough/internal/origin"
)

// repository is a local repository as one pull sees it.
type repository struct {
	origin.Repo
	began time.Time // what was deleted since then is not brought back by the pull
	cause cause     // the request that led here
}

// keyOf names content of a repository.
func keyOf(r origin.Repo, d digest.Digest) ledger.Key {
	return ledger.Key{Repository: r.Name, Digest: d}
}

// sourced names content of a repository as one source has it.
type sourced struct {
	ledger.Key
	from string // scheme://host/repository
}

func sourcedOf(r origin.Repo, d digest.Digest) sourced { return sourced{keyOf(r, d), r.From} }
