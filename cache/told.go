package cache

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/pullthrough/pullthrough/internal/ledger"
	"github.com/pullthrough/pullthrough/store"
)

// told remembers which jobs were done here, and when their events were sent, for their
// witnesses. A nil told remembers nothing.
type told struct{ shelf *shelf }

const (
	toldBytes = 4 << 20 // of records: those of some thousand manifests
	toldIDs   = 16      // of a manifest
	toldTags  = 256     // of a manifest
)

// toldRecord is what was told of a manifest.
type toldRecord struct {
	IDs  []string            `json:"ids"`  // of the last jobs
	Sent map[string]toldSent `json:"sent"` // the last event of each tag, and its own, which has no tag
}

// toldSent is an event that was sent.
type toldSent struct {
	At  time.Time `json:"at"`
	Job string    `json:"job"` // whose event it is, by ID
}

func newTold(records store.Records) *told { return &told{newShelf("told", records, toldBytes)} }

func toldKey(k ledger.Key) string { return shelfKey("told", k.Repository, k.Digest.String()) }

// note notes a job that is done.
func (t *told) note(ctx context.Context, run *ledger.Run) {
	k, now := run.Job.Key(), time.Now().UTC()
	rec := t.get(ctx, k)
	rec.IDs = append(rec.IDs, run.Job.ID)
	rec.IDs = rec.IDs[max(0, len(rec.IDs)-toldIDs):]
	if rec.Sent == nil || len(rec.Sent) > toldTags {
		rec.Sent = map[string]toldSent{}
	}
	for _, tag := range run.Sent {
		rec.Sent[tag] = toldSent{now, run.Job.ID}
	}
	if data, err := json.Marshal(rec); err == nil {
		t.shelf.put(ctx, toldKey(k), data, now)
	}
}

func (t *told) get(ctx context.Context, k ledger.Key) (rec toldRecord) {
	data, _, ok := t.shelf.get(ctx, toldKey(k))
	if !ok || json.Unmarshal(data, &rec) != nil {
		return toldRecord{}
	}
	return rec
}

// has reports whether a job was done.
func (t *told) has(ctx context.Context, k ledger.Key, id string) bool {
	return t != nil && slices.Contains(t.get(ctx, k).IDs, id)
}

// since returns the tags whose events were sent here after a job was made; the empty tag
// stands for the job's own event.
func (t *told) since(ctx context.Context, job ledger.Job) map[string]bool {
	if t == nil {
		return nil
	}
	sent := map[string]bool{}
	for tag, last := range t.get(ctx, job.Key()).Sent {
		sent[tag] = !last.At.Before(job.Created)
	}
	return sent
}

// events returns the IDs of the last events that were sent here of what a job may come to,
// be it by another one.
func (t *told) events(ctx context.Context, job ledger.Job) (ids []string) {
	k := job.Key()
	sent := t.get(ctx, k).Sent
	for _, tag := range append([]ledger.Tag{{}}, job.Tags...) {
		if last, ok := sent[tag.Name]; ok {
			ids = append(ids, eventID(last.Job, k, tag.Name))
		}
	}
	return ids
}

// covers reports whether all events that a job may come to were sent here after it was
// made, be it by another one.
func (t *told) covers(ctx context.Context, job ledger.Job) bool {
	sent := t.since(ctx, job)
	if job.Incomplete && !sent[""] || !job.Incomplete && len(job.Tags) == 0 {
		return false
	}
	return !slices.ContainsFunc(job.Tags, func(t ledger.Tag) bool { return !sent[t.Name] })
}
