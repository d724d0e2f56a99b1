package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/pullthrough/pullthrough/internal/ask"
	"github.com/pullthrough/pullthrough/internal/durable"
)

// logSlack is how many bytes must be gained for a log to be compacted. The records in
// it must be less than half of it, too.
const logSlack = 1 << 20

// recordLog is the file of one kind of records; see recordentry.go for what is
// in it. A file for each record would be a handful of system calls for each
// write, and some file systems take long to find room for a new file where many
// were deleted lately, which is what happens to jobs all day.
type recordLog struct {
	disk  *durable.Disk
	dirty *durable.Folders
	path  string
	syncs ask.Group[struct{}, error]

	mu    sync.Mutex
	file  *os.File
	end   int64 // where the next entry goes
	live  int64 // bytes of entries that count
	index map[string]span
}

// span is where an entry is.
type span struct {
	at   int64 // of the entry
	head int   // bytes before the data
	data int
}

func (s span) size() int64 { return int64(s.head + s.data + 1) }

// log returns the log of a kind. If there is none and create is false, the result is
// nil.
func (d *Dir) log(kind string, create bool) (*recordLog, error) {
	d.logsMu.Lock()
	defer d.logsMu.Unlock()
	if l := d.logs[kind]; l != nil {
		return l, nil
	}
	l := &recordLog{disk: &d.disk, dirty: &d.dirty, path: d.path("records", escape(kind)+".log")}
	if err := l.open(create); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	d.logs[kind] = l
	return l, nil
}

// open reads what is there up to the first entry that is torn: nothing after it
// can be trusted to be where it seems.
func (l *recordLog) open(create bool) error {
	f, err := durable.OpenWrite(l.path)
	if errors.Is(err, fs.ErrNotExist) && create {
		f, err = l.disk.CreateFile(l.path)
		l.dirty.Dirty(filepath.Dir(l.path))
	}
	if err != nil {
		return err
	}
	l.file, l.index = f, make(map[string]span)
	var former []span // replaced, and not marked by a process that ended: they would count once the later is deleted
	l.end, err = readEntries(f, func(key string, s span) {
		if old, ok := l.index[key]; ok {
			former = append(former, old)
		}
		l.live += s.size()
		l.index[key] = s
	})
	if err == nil {
		err = l.disk.Truncate(f, l.end)
	}
	for _, s := range former {
		if err == nil {
			err = l.drop(s)
		}
	}
	if err != nil {
		f.Close()
	}
	return err
}

// put appends an entry with one write, so that the end of the process cannot
// leave one that is half there and followed by another.
func (l *recordLog) put(key string, data []byte) error {
	entry, s := sealEntry(key, data)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.disk.Writing(l.file); err != nil {
		return err
	}
	s.at = l.end
	if _, err := l.file.WriteAt(entry, l.end); err != nil {
		return err // the next entry is written over what is there of this one
	}
	l.end += s.size()
	l.live += s.size()
	old, again := l.index[key]
	l.index[key] = s
	if again {
		if err := l.drop(old); err != nil {
			return err
		}
	}
	return l.shrink()
}

// delete marks an entry in place, which also works on a full disk.
func (l *recordLog) delete(key string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.index[key]
	if !ok {
		return nil
	}
	delete(l.index, key)
	if err := l.drop(s); err != nil {
		return err
	}
	return l.shrink()
}

func (l *recordLog) drop(s span) error {
	l.live -= s.size()
	if err := l.disk.Writing(l.file); err != nil {
		return err
	}
	_, err := l.file.WriteAt([]byte(entryDeleted), s.at)
	return err
}

// shrink keeps the log from growing for ever.
func (l *recordLog) shrink() error {
	if l.end-l.live <= max(l.live, logSlack) {
		return nil
	}
	if l.live == 0 {
		if err := l.disk.Truncate(l.file, 0); err != nil {
			return err
		}
		l.end = 0
		return nil
	}
	if err := l.compact(); err != nil && !durable.IsFull(err) {
		return err
	}
	return nil // the next put reports a full disk
}

func (l *recordLog) compact() error {
	temp, err := l.disk.CreateTemp()
	if err != nil {
		return err
	}
	index := make(map[string]span, len(l.index))
	at := int64(0)
	out := bufio.NewWriterSize(temp, 256<<10)
	var entry []byte
	for key, s := range l.index {
		entry = slices.Grow(entry[:0], int(s.size()))[:s.size()]
		if _, err = l.file.ReadAt(entry, s.at); err != nil {
			break
		}
		if _, err = out.Write(entry); err != nil {
			break
		}
		index[key] = span{at: at, head: s.head, data: s.data}
		at += s.size()
	}
	if err == nil {
		err = out.Flush()
	}
	// Synced, or a power loss could take all of it and not only the last writes.
	if err == nil {
		err = l.disk.Sync(temp)
	}
	if err == nil {
		err = l.disk.Rename(temp.Name(), l.path)
	}
	if err != nil {
		temp.Close()
		_ = l.disk.Remove(temp.Name())
		return err
	}
	l.dirty.Dirty(filepath.Dir(l.path))
	l.file.Close()
	l.file, l.index, l.end, l.live = temp, index, at, at
	return nil
}

func (l *recordLog) keys() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	keys := make([]string, 0, len(l.index))
	for key := range l.index {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func (l *recordLog) get(key string) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.index[key]
	if !ok {
		return nil, ErrNotFound
	}
	data := make([]byte, s.data)
	_, err := l.file.ReadAt(data, s.at+int64(s.head))
	return data, err
}

// close syncs and closes the file. The caller is about to mark the whole store as
// synced.
func (l *recordLog) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.disk.Sync(l.file)
	return errors.Join(err, l.file.Close())
}

// sync returns when everything that was written before is on disk. Calls at the same
// time share the work.
func (l *recordLog) sync(ctx context.Context) error {
	err, ended := l.syncs.Do(ctx, struct{}{}, func(context.Context) error {
		for {
			l.mu.Lock()
			f := l.file
			l.mu.Unlock()
			err := l.disk.Sync(f)
			l.mu.Lock()
			replaced := l.file != f // by a compaction, which had synced
			l.mu.Unlock()
			if !replaced {
				return errors.Join(err, l.syncName())
			}
		}
	})
	return errors.Join(err, ended)
}

// syncName syncs the name of the file.
func (l *recordLog) syncName() error {
	folder := filepath.Dir(l.path)
	mark, ok := l.dirty.Pending(folder)
	if !ok {
		return nil
	}
	return l.dirty.Sync(map[string]durable.Mark{folder: mark})
}

// PutRecord implements [Records].
func (d *Dir) PutRecord(ctx context.Context, kind, key string, data []byte) error {
	if err := checkRecord(ctx, kind, key); err != nil {
		return err
	}
	l, err := d.log(kind, true)
	if err == nil {
		err = l.put(key, data)
	}
	return recordError("put", kind, key, err)
}

// Record implements [Records].
func (d *Dir) Record(ctx context.Context, kind, key string) ([]byte, error) {
	if err := checkRecord(ctx, kind, key); err != nil {
		return nil, err
	}
	l, err := d.log(kind, false)
	if l == nil && err == nil {
		err = ErrNotFound
	}
	var data []byte
	if err == nil {
		data, err = l.get(key)
	}
	return data, recordError("read", kind, key, err)
}

// DeleteRecord implements [Records].
func (d *Dir) DeleteRecord(ctx context.Context, kind, key string) error {
	if err := checkRecord(ctx, kind, key); err != nil {
		return err
	}
	l, err := d.log(kind, false)
	if l != nil && err == nil {
		err = l.delete(key)
	}
	return recordError("delete", kind, key, err)
}

// SyncRecords implements [RecordSyncer].
func (d *Dir) SyncRecords(ctx context.Context, kind string) error {
	if err := checkRecord(ctx, kind, "key"); err != nil {
		return err
	}
	l, err := d.log(kind, false)
	if l != nil && err == nil {
		err = l.sync(ctx)
	}
	return recordError("sync", kind, "*", err)
}

func recordError(what, kind, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("store: %s record %s/%s: %w", what, kind, key, fullError(err))
}

// RecordKeys implements [Records], in the order of the keys.
func (d *Dir) RecordKeys(ctx context.Context, kind string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		err := checkRecord(ctx, kind, "key")
		var l *recordLog
		if err == nil {
			l, err = d.log(kind, false)
		}
		if err != nil {
			yield("", recordError("list", kind, "*", err))
			return
		}
		if l == nil {
			return
		}
		for _, key := range l.keys() {
			if err := ctx.Err(); err != nil {
				yield("", err)
				return
			}
			if !yield(key, nil) {
				return
			}
		}
	}
}
