package store

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"
)

// Use says when and how often a manifest was used. The zero Use is that of content of
// which nothing is known.
type Use struct {
	// First is when it was linked in its repository, in whole seconds.
	First time.Time
	// Last is the hour in which it was last used. To be linked is the first use.
	Last time.Time
	// Hours is in how many different hours it was used, 65,535 at most.
	Hours int
	// Pause is the usual time between two uses: the mean of the former usual time and of
	// the last one. It is 0 after one use.
	Pause time.Duration
}

// UseRecorder is an optional ability of a [Store]: it keeps when manifests were used, so
// that those which nobody uses can be given up first. [ManifestLister] yields it.
type UseRecorder interface {
	// RecordUse notes that a manifest in a repository is used now. It does not wait for
	// the disk and returns no error: what it noted is written along with a later change,
	// and the end of the process may lose it. The use of what is not there is forgotten.
	RecordUse(repo string, d digest.Digest)
}

// Sizer is an optional ability of a [Store]: how much it holds.
type Sizer interface {
	// Size returns the size of the store.
	Size(ctx context.Context) (Size, error)
	// RepositorySize returns the bytes of the content that is linked in a repository.
	// Content that several repositories link counts in each. A repository that is not
	// there has 0.
	RepositorySize(ctx context.Context, repo string) (int64, error)
}

// Size is how many bytes a store holds.
type Size struct {
	// Content is the bytes of all content, each piece counted once.
	Content int64
	// Overhead is what the store uses beside that, such as for tags, records and
	// unfinished content. A store may count small content here once more, and room that
	// it has for further tags and records.
	Overhead int64
	// Free is how many more bytes can be stored. It is negative if that is not known.
	Free int64
}

// add returns what u is after one more use at a time.
func (u Use) add(at time.Time) Use {
	first := at.Truncate(time.Second).UTC()
	at = at.Truncate(time.Hour).UTC()
	switch {
	case u.Hours == 0:
		return Use{First: first, Last: at, Hours: 1}
	case at.After(u.Last):
		pause := at.Sub(u.Last)
		if u.Hours > 1 {
			pause = ((u.Pause + pause) / 2).Round(time.Hour)
		}
		return Use{First: u.First, Last: at, Hours: min(u.Hours+1, 1<<16-1), Pause: pause}
	}
	return u
}
