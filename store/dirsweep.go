package store

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// Sweep removes the files that nothing links, which the end of a process between a
// file's rename and its link can leave, and the parts of unfinished content that are not
// open and older than a day. It returns how many bytes that were. Other calls go on
// meanwhile. A Dir whose former process did not close it does the same by itself.
func (d *Dir) Sweep(ctx context.Context) (freed int64, err error) {
	if d.closed.Load() {
		return 0, errClosed
	}
	freed, err = d.clearStale()
	if err == nil {
		var n int64
		n, err = d.sweepFiles(ctx)
		freed += n
	}
	if err != nil {
		return freed, fmt.Errorf("store: sweep: %w", storeError(err))
	}
	return freed, nil
}

// sweepStrays is Sweep after the end of a process. What cannot be removed now is left for
// the next one.
func (d *Dir) sweepStrays() { _, _ = d.sweepFiles(d.tick.context()) }

func (d *Dir) sweepFiles(ctx context.Context) (freed int64, err error) {
	err = d.blobFiles(ctx, func(alg string, names []string) error {
		n, err := d.sweepNames(alg, names)
		freed += n
		return err
	})
	return freed, err
}

// blobFiles calls each with the names of the files of one folder after the other.
func (d *Dir) blobFiles(ctx context.Context, each func(alg string, names []string) error) error {
	for _, alg := range algorithms {
		folders, err := readNames(d.path("blobs", alg))
		if err != nil {
			return err
		}
		for _, folder := range folders {
			if err := ctx.Err(); err != nil {
				return err
			}
			names, err := readNames(d.path("blobs", alg, folder))
			if err == nil {
				err = each(alg, names)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *Dir) sweepNames(alg string, names []string) (freed int64, err error) {
	strays, err := d.strays(alg, names)
	for _, c := range strays {
		size := sizeOnDisk(d.blobPath(c))
		if err := d.removeFile(c); err != nil {
			return freed, err
		}
		freed += size - sizeOnDisk(d.blobPath(c))
	}
	return freed, err
}

// strays returns the content of those files that nothing links.
func (d *Dir) strays(alg string, names []string) (strays []content, err error) {
	err = d.view(func(t dirTx) error {
		for _, name := range names {
			c, err := contentOf(digest.Digest(alg + ":" + name))
			if err != nil {
				continue // no file of ours
			}
			if b, ok := t.blob(c); !ok || b.number != 0 {
				strays = append(strays, c)
			}
		}
		return nil
	})
	return strays, err
}
