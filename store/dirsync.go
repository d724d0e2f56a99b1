package store

import (
	"errors"
	"io/fs"
	"maps"
	"path/filepath"

	"github.com/pullthrough/pullthrough/internal/durable"
)

// maxPending is how many repositories may have folders that wait for a sync. When
// there are more, a blob's repository syncs its folders at once.
const maxPending = 1024

// changed notes that names in a folder changed for repo.
func (d *Dir) changed(repo, folder string) {
	d.pend(repo, folder, d.dirty.Dirty(folder))
}

// leansOn makes the next sync of repo wait for a folder that another repository may
// have changed and not synced.
func (d *Dir) leansOn(repo, folder string) {
	if mark, ok := d.dirty.Pending(folder); ok {
		d.pend(repo, folder, mark)
	}
}

// pend makes the next sync of repo wait for a folder.
func (d *Dir) pend(repo, folder string, mark durable.Mark) {
	d.pendingMu.Lock()
	defer d.pendingMu.Unlock()
	p := d.pending[repo]
	if p == nil {
		p = make(map[string]durable.Mark)
		d.pending[repo] = p
	}
	p[folder] = max(p[folder], mark)
}

// crowded reports whether too many repositories have folders that wait for a sync.
func (d *Dir) crowded() bool {
	d.pendingMu.Lock()
	defer d.pendingMu.Unlock()
	return len(d.pending) > maxPending
}

// settle syncs the folders that wait for a sync of repo.
func (d *Dir) settle(repo string) error {
	d.pendingMu.Lock()
	want := maps.Clone(d.pending[repo])
	d.pendingMu.Unlock()
	if err := d.dirty.Sync(want); err != nil {
		return err
	}
	d.pendingMu.Lock()
	defer d.pendingMu.Unlock()
	p := d.pending[repo]
	for folder, mark := range want {
		if p[folder] == mark {
			delete(p, folder)
		}
	}
	if len(p) == 0 {
		delete(d.pending, repo)
	}
	return nil
}

// at calls do, which changes a folder, and notes the change for repo. If the folder is
// missing, at makes it and calls do again.
func (d *Dir) at(repo, folder string, do func() error) error {
	err := do()
	if errors.Is(err, fs.ErrNotExist) {
		if err := d.makeFolder(repo, folder); err != nil {
			return err
		}
		err = do()
	}
	if err == nil {
		d.changed(repo, folder)
	}
	return err
}

// makeFolder makes a folder and those above it. It notes for repo every folder that
// must be synced for this one to be found after a power loss, also those that another
// repository has made and not synced yet.
func (d *Dir) makeFolder(repo, folder string) error {
	made := func(parent string) { d.changed(repo, parent) }
	if err := d.disk.MkdirAll(folder, made); err != nil {
		return err
	}
	parent := filepath.Dir(folder)
	if parent == d.path("repos", repo) {
		// A repository gets all its folders at once: one sync for all.
		for _, name := range []string{blobLinks, manifestLinks, tagLinks} {
			if err := d.disk.MkdirAll(parent+"/"+name, made); err != nil {
				return err
			}
		}
	}
	for ; len(parent) >= len(d.root); parent = filepath.Dir(parent) {
		d.leansOn(repo, parent)
	}
	return nil
}
