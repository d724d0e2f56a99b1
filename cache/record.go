package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/pullthrough/pullthrough/store"
)

// recordJobs is the kind of the records of jobs.
const recordJobs = "jobs"

// recordWait is how long a request waits for the record of its copy. A disk that
// is slower is trouble of the store, not of the client.
const recordWait = time.Second

// records is the writing of records. jobs.mu guards it.
type records struct {
	store   store.Records // nil: the store keeps none
	dirty   map[content]chan struct{}
	now     content // what is being written, and when it is
	nowDone chan struct{}
	writing bool
	failing bool // said once
}

func (r *records) init(e *engine) {
	r.store, _ = store.As[store.Records](e.store)
	r.dirty = map[content]chan struct{}{}
}

// saved ends when a record is written, or cannot be.
type saved struct{ done <-chan struct{} }

// settle waits for it until ctx ends.
func (s saved) settle(ctx context.Context) {
	if s.done == nil {
		return
	}
	select {
	case <-s.done:
	case <-ctx.Done():
	}
}

// save writes or deletes the record of a job, in order: what is written is what
// is true when it is written. j.mu is held.
func (j *jobs) save(k content) saved {
	r := &j.records
	if r.store == nil {
		return saved{}
	}
	done, ok := r.dirty[k]
	if !ok {
		if !r.writing && !j.e.spawn(j.write) {
			return saved{} // after Shutdown the records stay as they are
		}
		r.writing = true
		done = make(chan struct{})
		r.dirty[k] = done
	}
	return saved{done}
}

// saving is the write of a record that is under way, if there is one. j.mu is
// held.
func (j *jobs) saving(k content) saved {
	r := &j.records
	if done, ok := r.dirty[k]; ok {
		return saved{done}
	}
	if r.now == k {
		return saved{r.nowDone}
	}
	return saved{}
}

func (j *jobs) write() {
	r := &j.records
	j.lock()
	defer j.unlock()
	for len(r.dirty) > 0 {
		for k, done := range r.dirty {
			delete(r.dirty, k)
			r.now, r.nowDone = k, done
			var data []byte
			if t := j.entries[k]; t != nil {
				data, _ = json.Marshal(t.job) // plain data
			}
			j.unlock()
			err := j.e.writeRecord(k, data)
			close(done)
			j.lock()
			r.now = content{}
			if err != nil && !r.failing && j.e.ctx.Err() == nil {
				j.log(slog.LevelError, "the records of copies cannot be written; a crash would lose some", "repository", k.repo, "err", err)
			}
			r.failing = err != nil
		}
	}
	r.writing = false
}

// writeRecord writes a record, or deletes it if there is no data.
func (e *engine) writeRecord(k content, data []byte) error {
	r := e.jobs.records.store
	ctx := context.WithoutCancel(e.ctx)
	if data == nil {
		return r.DeleteRecord(ctx, recordJobs, recordKey(k))
	}
	return r.PutRecord(ctx, recordJobs, recordKey(k), data)
}

func recordKey(k content) string {
	h := sha256.Sum256([]byte(k.repo + "\x00" + k.digest.String()))
	return hex.EncodeToString(h[:16])
}

// syncRecords brings what was written to the disk, as far as the store can.
func (e *engine) syncRecords(ctx context.Context) {
	s, ok := store.As[store.RecordSyncer](e.store)
	if !ok {
		return
	}
	if err := s.SyncRecords(ctx, recordJobs); err != nil && ctx.Err() == nil {
		e.log.Warn("the records of copies cannot be synced; a loss of power could lose events", "err", err)
	}
}

// awaitRecords waits for what a former process left, so that a job that is made
// now goes on with it. It reports false if ctx ended before.
func (j *jobs) awaitRecords(ctx context.Context) bool {
	select {
	case <-j.loaded:
		return true
	default:
	}
	saved{j.loaded}.settle(ctx)
	return ctx.Err() == nil
}

// recover takes up the jobs of a former process.
func (e *engine) recover() {
	e.load()
	left := e.resumeAll()
	close(e.jobs.resumed)
	e.finishDeletes()
	e.lists.load(e.ctx)
	e.read.load(e.ctx)
	for pause := retryFirst; left > 0; pause = min(2*pause, retryLongest) {
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-e.ctx.Done():
			t.Stop()
			return
		}
		left = e.resumeAll()
	}
}

// resumeAll takes up what it can and returns how many are left for later.
func (e *engine) resumeAll() (left int) {
	e.jobs.lock()
	former := make([]Job, 0, len(e.jobs.former))
	for _, job := range e.jobs.former {
		former = append(former, job)
	}
	e.jobs.unlock()
	for _, job := range former {
		e.resume(job)
	}
	e.jobs.lock()
	defer e.jobs.unlock()
	return len(e.jobs.former)
}

// load reads the records.
func (e *engine) load() {
	defer close(e.jobs.loaded)
	r := e.jobs.records.store
	if r == nil {
		e.log.Warn("the store keeps no records: copies that are not finished, and their events, are lost with the process")
		return
	}
	for key, err := range r.RecordKeys(e.ctx, recordJobs) {
		if err != nil && key == "" {
			e.jobs.unread = fmt.Errorf("cache: the records of copies cannot be listed: %w", err)
		}
		var data []byte
		if err == nil {
			data, err = r.Record(e.ctx, recordJobs, key)
		}
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil && e.ctx.Err() != nil {
			return
		}
		if err != nil {
			e.log.Error("the record of a copy cannot be read", "key", key, "err", err)
			continue
		}
		var job Job
		if json.Unmarshal(data, &job) != nil || job.Digest.Validate() != nil {
			e.log.Error("the record of a copy cannot be understood and is dropped", "key", key)
			_ = r.DeleteRecord(e.ctx, recordJobs, key)
			continue
		}
		e.jobs.lock()
		e.jobs.former[content{job.Repository, job.Digest}] = job
		e.jobs.unlock()
	}
}

// resume takes up one job, unless a pull has done so already.
func (e *engine) resume(job Job) {
	k := content{job.Repository, job.Digest}
	p, err := e.again(e.ctx, job.Repository, job.Source)
	e.jobs.lock()
	_, left := e.jobs.former[k]
	if left && errors.Is(err, errGone) {
		delete(e.jobs.former, k)
		e.jobs.save(k) // deletes it, in order with what a pull may write now
	}
	e.jobs.unlock()
	switch {
	case !left:
	case err == nil:
		man := jobManifest(p, job)
		e.learn(p, man)
		e.jobs.add(p, man, Job{Watch: job.Watch})
	case errors.Is(err, errGone):
		e.log.Info("a copy of a former process is given up", "repository", job.Repository, "err", err)
	default:
		e.log.Warn("a copy of a former process is taken up later", "repository", job.Repository, "err", err)
	}
}
