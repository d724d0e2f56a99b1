package cache

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/pullthrough/pullthrough/internal/flight"
	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/webhook"
)

// errWaiting reports an index none of whose images is complete.
var errWaiting = errors.New("cache: the index waits for one of its images")

// errBadJob reports a job that can never be done.
var errBadJob = errors.New("cache: the job cannot be done")

// blobsAtOnce is how many blobs of one manifest are fetched at once.
const blobsAtOnce = 4

// Copy does a job: it fetches what the manifest names, links it, moves its
// tags, and sends its events, in this order, so that a tag never stands for
// something that cannot be served whole. Doing a job again does no harm. It is
// for a [Copier]; an error means that the job should be done again later.
func (c *Cache) Copy(ctx context.Context, job Job) error {
	e := c.engine()
	err := e.copy(ctx, job)
	if e.cfg.Copier != nil {
		e.jobs.mu.Lock()
		if t := e.jobs.entries[content{job.Repository, job.Digest}]; t != nil {
			e.jobs.ended(t, err)
		}
		e.jobs.mu.Unlock()
	}
	if errors.Is(err, errWaiting) {
		return nil // it goes on when a child is complete
	}
	return err
}

func jobManifest(p place, job Job) *manifest {
	return newManifest(ocispec.Descriptor{MediaType: job.MediaType, Digest: job.Digest, Size: int64(len(job.Manifest))}, job.Manifest, p.source)
}

func (e *engine) copy(ctx context.Context, job Job) error {
	p, err := e.again(ctx, job.Repository, job.Source)
	if err != nil {
		return err
	}
	man := e.complete(ctx, p, job.Digest)
	if man == nil {
		man = jobManifest(p, job)
		if job.Digest.Algorithm().FromBytes(job.Manifest) != job.Digest {
			return fmt.Errorf("%w: its manifest is not %s", errBadJob, job.Digest)
		}
		parsed := e.learn(p, man)
		switch {
		case parsed.Bad != nil:
			return fmt.Errorf("%w: %w", errBadJob, parsed.Bad)
		case parsed.Index && !e.childComplete(ctx, p, parsed):
			return errWaiting
		case !parsed.Index:
			if err := e.copyBlobs(ctx, p, parsed); err != nil {
				return err
			}
		}
	}
	return e.finish(ctx, p, job, man)
}

// childComplete reports whether an index can be served: one of its images is
// complete, or it has none.
func (e *engine) childComplete(ctx context.Context, p place, m *oci.Manifest) bool {
	images := m.Images()
	for _, d := range images {
		if e.complete(ctx, p, d.Digest) != nil {
			return true
		}
	}
	return len(images) == 0
}

func (e *engine) copyBlobs(ctx context.Context, p place, m *oci.Manifest) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(blobsAtOnce)
	for _, d := range m.Blobs() {
		g.Go(func() error { return e.ensure(ctx, p, d) })
	}
	return g.Wait()
}

// linked reports whether a blob may be read at p.
func (e *engine) linked(ctx context.Context, p place, d digest.Digest) bool {
	info, err := e.store.Stat(ctx, p.repo, d)
	return err == nil && !store.IsManifest(info.MediaType) && p.ours(info.Source)
}

// ensure brings a blob into the store: it is there, another repository has it
// from the same origin and the upstream says that we may, or it is downloaded.
func (e *engine) ensure(ctx context.Context, p place, d ocispec.Descriptor) error {
	if e.linked(ctx, p, d.Digest) {
		return nil
	}
	key := flight.Key{Source: p.match.Source, Digest: d.Digest}
	if _, _, flying := e.flights.Peek(key); !flying {
		if done, err := e.adopt(ctx, p, d.Digest, d.Size); done {
			return err
		}
	}
	h, err := e.flights.Join(ctx, e.flight(p, d.Digest, d.Size, true))
	if err != nil {
		return err
	}
	defer h.Close()
	if err := h.Wait(ctx); err != nil && !errors.Is(err, flight.ErrStored) {
		return err
	}
	return nil
}

// adopt links bytes that came from the same origin before, if the upstream says
// so to this rule. done: there is nothing to download, for better or worse.
func (e *engine) adopt(ctx context.Context, p place, d digest.Digest, size int64) (done bool, err error) {
	want := store.Info{Source: p.source}
	want.Digest, want.Size = d, size
	var refused error
	err = e.store.Adopt(ctx, p.repo, want, func(ctx context.Context) error {
		_, refused = e.looped(p).StatBlob(ctx, d)
		return refused
	})
	switch {
	case err == nil:
		e.stats.adopted.Add(1)
		return true, nil
	case refused != nil:
		return true, refused
	}
	return false, nil
}

// finish links a manifest whose content is complete, completes its parents,
// moves its tags and sends its events.
func (e *engine) finish(ctx context.Context, p place, job Job, man *manifest) error {
	if err := e.link(ctx, p, man); err != nil {
		return err
	}
	for _, parent := range e.jobs.parents(p, job.Digest) {
		err := e.finish(ctx, p, parent.job, parent.man)
		e.jobs.mu.Lock()
		e.jobs.ended(parent, err)
		e.jobs.mu.Unlock()
	}
	moved := map[string]time.Time{}
	for {
		tags := e.jobs.tags(job, moved)
		if len(tags) == 0 {
			break
		}
		for _, t := range tags {
			moved[t.Tag] = t.Asked
			if err := e.moveTag(ctx, p, job, man, t); err != nil {
				return err
			}
		}
	}
	if job.Incomplete {
		return e.tell(ctx, job, man, "")
	}
	return nil
}

// link makes a manifest visible. It is the last thing that makes it complete.
func (e *engine) link(ctx context.Context, p place, man *manifest) error {
	d := man.desc.Digest
	if info, err := e.store.Stat(ctx, p.repo, d); err != nil || !store.IsManifest(info.MediaType) || info.Source != p.source {
		parsed := e.learn(p, man)
		info := store.Info{Descriptor: man.desc, Source: p.source, Subject: parsed.Subject}
		if parsed.Subject != "" {
			info.ArtifactType, info.Annotations = parsed.ArtifactType, parsed.Annotations
		}
		w, err := e.store.Create(ctx, p.repo, info)
		if err != nil {
			return err
		}
		defer w.Close()
		if _, err := w.Write(man.body); err != nil {
			return err
		}
		if err := w.Commit(ctx); err != nil {
			return err
		}
		e.stats.copied.Add(1)
	}
	e.remember(p, man)
	return nil
}

// moveTag makes a tag stand for a complete manifest, unless it stands for a
// later answer.
func (e *engine) moveTag(ctx context.Context, p place, job Job, man *manifest, t TagSighting) error {
	now, err := e.store.Tag(ctx, p.repo, t.Tag)
	known := err == nil && now.Source == p.source
	if known && now.Digest == job.Digest && !now.Asked.Equal(t.Asked) {
		e.forget(tagKey{p.repo, t.Tag}, t.Asked)
		return nil // another copy of the same was faster
	}
	if !known || now.Digest != job.Digest {
		s := e.stored(ctx, p, t.Tag)
		if err := e.admit(p, t.Tag, man, s); err != nil {
			e.log.Info("a tag does not move: not admitted", "repository", p.repo, "tag", t.Tag, "digest", job.Digest.String(), "err", err)
			return nil
		}
	}
	err = e.store.SetTag(ctx, p.repo, t.Tag, store.Tag{Descriptor: man.desc, Source: p.source, Asked: t.Asked})
	e.forget(tagKey{p.repo, t.Tag}, t.Asked)
	if errors.Is(err, store.ErrStale) {
		return nil
	}
	if err != nil {
		return err
	}
	return e.tell(ctx, job, man, t.Tag)
}

// tell sends an event. Its ID is derived from the job, so that it is the same
// when the job is done again after a crash.
func (e *engine) tell(ctx context.Context, job Job, man *manifest, tag string) error {
	if e.cfg.Events == nil {
		return nil
	}
	h := sha256.Sum256([]byte(job.ID + "\x00" + job.Repository + "\x00" + job.Digest.String() + "\x00" + tag))
	return e.cfg.Events.Send(ctx, webhook.Event{
		ID:        fmt.Sprintf("%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16]),
		Timestamp: time.Now().UTC(), Action: webhook.ActionPush,
		Target: webhook.Target{
			MediaType: man.desc.MediaType, Size: man.desc.Size, Length: man.desc.Size,
			Digest: job.Digest.String(), Repository: job.Repository, Tag: tag,
		},
	})
}

// manifest returns a manifest that is being copied, nil if it is not.
func (j *jobs) manifest(p place, d digest.Digest) *manifest {
	j.mu.Lock()
	defer j.mu.Unlock()
	t := j.entries[content{p.repo, d}]
	if t == nil || p.match == nil || t.job.Source != p.match.Source {
		return nil
	}
	return t.man
}

// parents takes the indexes that wait for the manifest d.
func (j *jobs) parents(p place, d digest.Digest) []*jobEntry {
	j.mu.Lock()
	defer j.mu.Unlock()
	var parents []*jobEntry
	for _, t := range j.repos[p.repo] {
		if t.state != jobWaiting || t.job.Source != p.match.Source {
			continue
		}
		for _, c := range t.parsed.Images() {
			if c.Digest == d {
				j.unpark(t)
				t.state = jobRunning
				parents = append(parents, t)
				break
			}
		}
	}
	return parents
}

// tags returns the tags of a job that have not moved yet, those included that
// came while it ran.
func (j *jobs) tags(job Job, moved map[string]time.Time) (tags []TagSighting) {
	j.mu.Lock()
	defer j.mu.Unlock()
	all := job.Tags
	if t := j.entries[content{job.Repository, job.Digest}]; t != nil {
		all = mergeTags(all, t.job.Tags)
	}
	for _, t := range all {
		if at, ok := moved[t.Tag]; !ok || t.Asked.After(at) {
			tags = append(tags, t)
		}
	}
	return tags
}

// childIsThere looks whether a child became complete while its index was on its
// way to wait.
func (j *jobs) childIsThere(k content, t *jobEntry) {
	p, err := j.e.again(j.e.ctx, k.repo, t.job.Source)
	if err != nil || !j.e.childComplete(j.e.ctx, p, t.parsed) {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.entries[k] == t && t.state == jobWaiting {
		j.start(t)
	}
}

// wants notes that a client asks for a blob. Of the manifests that are watched,
// one counts as pulled when it alone still lacks that layer, or when all its
// layers were asked for.
func (j *jobs) wants(p place, d digest.Digest) {
	if j.watched.Load() == 0 {
		return
	}
	lacking := 0
	if !j.e.linked(j.e.ctx, p, d) {
		lacking = 1
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	var watching []*jobEntry
	owners := 0
	for _, t := range j.repos[p.repo] {
		has := slices.ContainsFunc(t.parsed.Layers, func(l ocispec.Descriptor) bool { return l.Digest == d })
		if !has {
			continue
		}
		owners++
		if t.state == jobWatching {
			delete(t.unasked, d)
			watching = append(watching, t)
		}
	}
	for _, t := range watching {
		if owners == lacking || len(t.unasked) == 0 {
			j.start(t)
			j.save(content{t.job.Repository, t.job.Digest})
		}
	}
}
