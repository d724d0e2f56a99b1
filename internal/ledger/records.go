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

// writer writes records on one goroutine. Ledger.mu guards it.
type writer struct {
	dirty   map[Key]chan struct{}
	now     Key // what is being written
	nowDone chan struct{}
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
	if !l.writing && !l.spawn(l.write) {
		return nil // after Close the records stay as they are
	}
	l.writing = true
	if l.dirty == nil {
		l.dirty = map[Key]chan struct{}{}
	}
	done = make(chan struct{})
	l.dirty[k] = done
	return done
}

// saving is the write of a record that is under way, if there is one. l.mu is held.
func (l *Ledger) saving(k Key) saved {
	if done, ok := l.dirty[k]; ok {
		return done
	}
	if l.now == k {
		return l.nowDone
	}
	return nil
}

// write writes what is dirty until nothing is.
func (l *Ledger) write() {
	l.mu.Lock()
	defer l.unlock()
	for len(l.dirty) > 0 {
		for k, done := range l.dirty {
			delete(l.dirty, k)
			l.now, l.nowDone = k, done
			var job *Job
			if e := l.entries[k]; e != nil {
				copied := e.job
				job = &copied
			}
			l.unlock()
			err := l.writeOne(k, job)
			close(done)
			l.mu.Lock()
			l.now = Key{}
			if err != nil && !l.failing && !l.closed {
				l.log(slog.LevelError, "the records of copy jobs cannot be written; a crash would lose some jobs", "repository", k.Repository, "err", err)
			}
			l.failing = err != nil
		}
	}
	l.writing = false
}

// writeOne writes a record, or deletes it if there is no job.
func (l *Ledger) writeOne(k Key, job *Job) error {
	ctx := context.WithoutCancel(l.ctx)
	if job == nil {
		return l.records.Delete(ctx, recordKey(k))
	}
	return l.records.Put(ctx, recordKey(k), *job)
}

// sync returns when what was written survives a loss of power.
func (l *Ledger) sync(ctx context.Context) {
	if l.records == nil {
		return
	}
	if err := l.records.Sync(ctx); err != nil && ctx.Err() == nil {
		l.cfg.Log.Warn("the records of copy jobs cannot be synced; a loss of power could lose events", "err", err)
	}
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
	e := &entry{job: job, man: job.Content(), unasked: map[digest.Digest]bool{}}
	for _, d := range e.man.Parsed.Layers {
		e.unasked[d.Digest] = true
	}
	l.mu.Lock()
	defer l.unlock()
	if l.entries[job.Key()] == nil {
		l.insert(e)
	}
}
