package prefetch

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/pullthrough/pullthrough/cache"
)

// DefaultAtOnce is how many images are copied at once if a Scheduler does not say it.
const DefaultAtOnce = 4

// Scheduler copies the images of tasks at their times. Its exported fields must not change
// after first use. It is safe for concurrent use and must not be copied.
type Scheduler struct {
	// Prefetch copies an image; see cache.Cache.Prefetch.
	Prefetch func(ctx context.Context, repository, reference string, o cache.PrefetchOptions) error
	// Log gets a line for each image, and one for each time of a task.
	Log *slog.Logger
	// AtOnce is how many images of all tasks are copied at once. If not positive,
	// DefaultAtOnce.
	AtOnce int

	mu     sync.Mutex
	closed bool
	slots  chan struct{}
	tasks  map[string]context.CancelFunc // by their keys
	ended  sync.WaitGroup
	stats  Stats
}

// Stats are figures of a Scheduler.
type Stats struct {
	Images  int       // of all tasks
	Running int       // images that are copied now
	Copied  int64     // how often an image was copied, or was found complete
	Failed  int64     // how often one was not
	Last    time.Time // when an image was copied or failed for the last time; zero if none was
}

// Stats returns the figures.
func (s *Scheduler) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Set replaces the tasks. New ones begin at once; those that are the same as before go on,
// and the others end, with what they are copying. One that had only one time, at which an
// image failed, begins again. Set does not wait for any. After Close it does nothing.
func (s *Scheduler) Set(tasks []Task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if s.slots == nil {
		s.slots = make(chan struct{}, max(1, or(s.AtOnce, DefaultAtOnce)))
	}
	former := s.tasks
	s.tasks, s.stats.Images = map[string]context.CancelFunc{}, 0
	for _, t := range tasks {
		key := t.key()
		if s.tasks[key] != nil {
			continue // the same task twice
		}
		s.stats.Images += len(t.Images)
		if s.tasks[key] = former[key]; s.tasks[key] != nil {
			delete(former, key)
			continue
		}
		ctx, cancel := context.WithCancel(context.Background())
		s.tasks[key] = cancel
		s.ended.Go(func() {
			if !s.follow(ctx, t) {
				s.forget(ctx, key)
			}
		})
	}
	for _, cancel := range former {
		cancel()
	}
}

// forget makes the next Set begin a task anew that has ended.
func (s *Scheduler) forget(ctx context.Context, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() == nil { // otherwise another task may have the key now
		delete(s.tasks, key)
	}
}

// or returns n, or otherwise if n is not positive.
func or(n, otherwise int) int {
	if n <= 0 {
		return otherwise
	}
	return n
}

// Close ends all tasks, with what they are copying, and waits for that.
func (s *Scheduler) Close() {
	s.mu.Lock()
	s.closed = true
	for _, cancel := range s.tasks {
		cancel()
	}
	s.mu.Unlock()
	s.ended.Wait()
}

// follow runs a task at its times until ctx ends. For a task that has only one time, it
// reports whether all went well.
func (s *Scheduler) follow(ctx context.Context, t Task) (well bool) {
	for {
		begun := time.Now()
		failed := s.run(ctx, t)
		if ctx.Err() != nil {
			return true
		}
		now := time.Now()
		next := t.next(begun, now)
		attrs := []any{"images", len(t.Images), "failed", failed, "duration", now.Sub(begun)}
		if next.IsZero() {
			s.Log.Info("prefetched a list", append(attrs, "next", "at the next start")...)
			return failed == 0
		}
		s.Log.Info("prefetched a list", append(attrs, "schedule", t.Schedule.String(), "next", next.Format(time.RFC3339))...)
		// The wall clock decides and not the time that the process has run: a machine that
		// slept is on time again within a check.
		for left := next.Sub(now); left > 0; left = time.Until(next.Round(0)) {
			select {
			case <-ctx.Done():
				return true
			case <-time.After(min(left, clockCheck)):
			}
		}
	}
}

// clockCheck is how often the clock is looked at.
const clockCheck = time.Minute

// run copies the images of a task, and returns how many failed.
func (s *Scheduler) run(ctx context.Context, t Task) (failed int) {
	var all sync.WaitGroup
	var mu sync.Mutex
	for _, image := range t.Images {
		select {
		case s.slots <- struct{}{}:
		case <-ctx.Done():
			all.Wait()
			return failed
		}
		all.Go(func() {
			defer func() { <-s.slots }()
			if !s.copy(ctx, image) {
				mu.Lock()
				failed++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return failed
}

// copy copies an image and reports whether it is here now.
func (s *Scheduler) copy(ctx context.Context, image Image) bool {
	s.count(func(now *Stats) { now.Running++ })
	begun, size := time.Now(), int64(0)
	err := s.Prefetch(ctx, image.Repository, image.Reference, cache.PrefetchOptions{
		Platforms: image.Platforms, Progress: func(_, total int64) { size = total },
	})
	ended := ctx.Err() != nil
	s.count(func(now *Stats) {
		now.Running--
		switch {
		case err == nil:
			now.Copied++
		case !ended:
			now.Failed++
		}
		now.Last = time.Now()
	})
	attrs := []any{"image", image.String(), "duration", time.Since(begun)}
	switch {
	case err == nil:
		s.Log.Info("prefetched", append(attrs, "bytes", size)...)
	case !ended:
		s.Log.Warn("not prefetched; it is tried at the next time of its list", append(attrs, "error", err)...)
	}
	return err == nil
}

// count changes the figures.
func (s *Scheduler) count(change func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.stats)
}
