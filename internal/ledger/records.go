package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/backoff"
	"github.com/pullthrough/pullthrough/internal/recordset"
)

// recordKind is the kind of the records.
const recordKind = "jobs"

// nextMost is more than any failure asks for: a job that waits longer was written with
// another clock.
const nextMost = 25 * time.Hour

// writer writes records on one goroutine: all that wait, as one. Ledger.mu guards it.
type writer struct {
	dirty   map[Key]chan struct{} // to be written; closed when that is done
	now     map[Key]chan struct{} // being written
	held    map[Key]bool          // see Run.Hold
	writing bool
	failing bool // the log has said it once
}

// saved is closed when a record is written, or cannot be; nil if there is nothing to
// wait for.
type saved chan struct{}

func (s saved) wait(ctx context.Context) {
	if s == nil {
		return
	}
	select {
	case <-s:
	case <-ctx.Done():
	}
}

func recordKey(k Key) string { return recordset.Key(k.Repository, k.Digest.String()) }

// save has the record of a job written, or deleted if there is no such job. l.mu is
// held.
func (l *Ledger) save(k Key) saved {
	if l.records == nil {
		return nil
	}
	done, ok := l.dirty[k]
	if ok {
		return done
	}
	if !l.startWriting() {
		return nil // after Close the records stay as they are
	}
	if l.dirty == nil {
		l.dirty = map[Key]chan struct{}{}
	}
	done = make(chan struct{})
	l.dirty[k] = done
	return done
}

// startWriting has write run. It reports false after Close. l.mu is held.
func (l *Ledger) startWriting() bool {
	l.writing = l.writing || l.spawn(l.write)
	return l.writing
}

// saving is the write of a record that is under way, if there is one. l.mu is held.
func (l *Ledger) saving(k Key) saved {
	if done, ok := l.dirty[k]; ok {
		return done
	}
	return l.now[k]
}

// write writes what is dirty until nothing is but what is held.
func (l *Ledger) write() {
	l.mu.Lock()
	defer l.unlock()
	for {
		jobs := l.takeDirty()
		if len(jobs) == 0 {
			break
		}
		l.unlock()
		err := l.writeAll(jobs)
		l.mu.Lock()
		for _, done := range l.now {
			close(done)
		}
		l.now = nil
		if err != nil && !l.failing && !l.closed {
			l.log(slog.LevelError, "the records of copy jobs cannot be written; a crash would lose some jobs", "err", err)
		}
		l.failing = err != nil
	}
	l.writing = false
}

// mostAtOnce is how many records are written as one.
const mostAtOnce = 256

// takeDirty returns what is to be written now: the job of each key, or nil if its record
// is to be deleted. l.mu is held.
func (l *Ledger) takeDirty() map[Key]*Job {
	jobs := map[Key]*Job{}
	l.now = map[Key]chan struct{}{}
	for k, done := range l.dirty {
		if l.held[k] {
			continue
		}
		if len(jobs) == mostAtOnce {
			break
		}
		delete(l.dirty, k)
		l.now[k], jobs[k] = done, nil
		if e := l.entries[k]; e != nil {
			copied := e.job
			jobs[k] = &copied
		}
	}
	return jobs
}

// writeAll writes records, or deletes those without a job.
func (l *Ledger) writeAll(jobs map[Key]*Job) error {
	ctx := context.WithoutCancel(l.ctx)
	changes := make([]recordset.Change, 0, len(jobs))
	for k, job := range jobs {
		c := recordset.Change{Kind: recordKind, Key: recordKey(k)}
		if job != nil {
			var err error
			if c, err = l.records.Change(c.Key, *job); err != nil {
				return err // it is plain data
			}
		}
		changes = append(changes, c)
	}
	if l.cfg.Write != nil {
		return l.cfg.Write(ctx, changes)
	}
	var err error
	for _, c := range changes {
		if c.Data == nil {
			err = errors.Join(err, l.cfg.Records.DeleteRecord(ctx, c.Kind, c.Key))
		} else {
			err = errors.Join(err, l.cfg.Records.PutRecord(ctx, c.Kind, c.Key, c.Data))
		}
	}
	return err
}

// Ready waits until the records of a former process are read, or ctx ends, whose cause
// it returns then. A job that is added afterwards goes on with what the former process
// had of it.
func (l *Ledger) Ready(ctx context.Context) error {
	select {
	case <-l.loaded:
		return nil
	default:
	}
	select {
	case <-l.loaded:
		return nil
	case <-l.ctx.Done():
		return context.Cause(l.ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Unread returns why the records of a former process cannot be listed, once Ready has
// returned nil.
func (l *Ledger) Unread() error { return l.unread }

// load enters what a former process left.
func (l *Ledger) load() {
	defer close(l.loaded)
	if l.records == nil {
		return
	}
	err := l.records.Load(l.ctx, func(key string, job Job, err error) {
		switch {
		case errors.Is(err, recordset.ErrDamaged):
			l.cfg.Log.Error("the record of a copy job cannot be understood and is dropped", "key", key, "err", err)
			_ = l.records.Delete(l.ctx, key)
		case err != nil:
			l.cfg.Log.Error("the record of a copy job cannot be read; the job is lost if it stays so", "key", key, "err", err)
		default:
			l.resume(job)
		}
	})
	if err != nil && l.ctx.Err() == nil {
		l.unread = fmt.Errorf("cache: the records of copy jobs cannot be listed: %w", err)
	}
}

// resume enters a job of a former process in the state that its record says.
func (l *Ledger) resume(job Job) {
	job.Created, job.Next = backoff.Restore(job.Created, job.Next, time.Now().UTC(), nextMost)
	e := &entry{job: job, man: job.Content(), unasked: map[digest.Digest]bool{}, resumed: true}
	for _, d := range e.man.Parsed.Layers {
		e.unasked[d.Digest] = true
	}
	l.mu.Lock()
	defer l.unlock()
	if l.entries[job.Key()] == nil {
		l.insert(e)
	}
}
