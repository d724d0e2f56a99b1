package inbound

import (
	"context"
	"maps"
	"os"
	"time"
)

// Watch looks at files until ctx ends, and calls changed after one of them has changed, appeared or
// gone. A file must be the same in two looks before it counts, so that none is read while it is being
// written. Between two looks lies the time every. The files may differ with each look.
func Watch(ctx context.Context, every time.Duration, files func() []string, changed func()) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	known := look(files())
	before := known
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := look(files())
		if !maps.Equal(now, known) && maps.Equal(now, before) {
			known = now
			changed()
		}
		before = now
	}
}

// fileState tells one state of a file from another.
type fileState struct {
	modified time.Time
	size     int64
	mode     os.FileMode
}

// look returns the states of the files that exist.
func look(files []string) map[string]fileState {
	all := map[string]fileState{}
	for _, path := range files {
		if info, err := os.Stat(path); err == nil {
			all[path] = fileState{info.ModTime(), info.Size(), info.Mode()}
		}
	}
	return all
}
