package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/pullthrough/pullthrough/store"
)

// recordJobs is the kind of the records of jobs.
const recordJobs = "jobs"

// save writes or deletes the record of a job, off everyone's path and in
// order: what is written is what is true when it is written. j.mu is held.
func (j *jobs) save(k content) {
	if _, ok := store.As[store.Records](j.e.store); !ok {
		return
	}
	j.dirty[k] = true
	if !j.writing {
		j.writing = true
		j.e.wg.Go(j.write)
	}
}

func (j *jobs) write() {
	records, _ := store.As[store.Records](j.e.store)
	ctx := context.WithoutCancel(j.e.ctx)
	j.mu.Lock()
	defer j.mu.Unlock()
	for len(j.dirty) > 0 {
		for k := range j.dirty {
			delete(j.dirty, k)
			var data []byte
			if t := j.entries[k]; t != nil {
				data, _ = json.Marshal(t.job)
			}
			j.mu.Unlock()
			var err error
			if key := recordKey(k); data != nil {
				err = records.PutRecord(ctx, recordJobs, store.Record{Key: key, Data: data})
			} else {
				err = records.DeleteRecord(ctx, recordJobs, key)
			}
			if err != nil {
				j.e.log.Error("the record of a copy cannot be written; a crash would lose it", "repository", k.repo, "err", err)
			}
			j.mu.Lock()
		}
	}
	j.writing = false
}

func recordKey(k content) string {
	h := sha256.Sum256([]byte(k.repo + "\x00" + k.digest.String()))
	return hex.EncodeToString(h[:16])
}

// recover takes up the jobs of a former process.
func (e *engine) recover() {
	records, ok := store.As[store.Records](e.store)
	if !ok {
		e.log.Warn("the store keeps no records: copies that are not finished are lost with the process")
		return
	}
	for r, err := range records.Records(e.ctx, recordJobs) {
		if err != nil {
			e.log.Error("the records of copies cannot be read", "err", err)
			return
		}
		var job Job
		if json.Unmarshal(r.Data, &job) != nil || job.Digest.Validate() != nil {
			_ = records.DeleteRecord(e.ctx, recordJobs, r.Key)
			continue
		}
		e.resume(job)
	}
}

// resume takes up one job.
func (e *engine) resume(job Job) {
	p, err := e.again(e.ctx, job.Repository, job.Source)
	if err != nil {
		e.log.Info("a copy of a former process is given up", "repository", job.Repository, "err", err)
		if records, ok := store.As[store.Records](e.store); ok {
			_ = records.DeleteRecord(e.ctx, recordJobs, recordKey(content{job.Repository, job.Digest}))
		}
		return
	}
	incomplete := job.Incomplete
	t := e.jobs.add(p, jobManifest(p, job), job)
	if t != nil && incomplete {
		e.jobs.mu.Lock()
		t.job.Incomplete = true // its event may not have been sent
		e.jobs.mu.Unlock()
	}
}
