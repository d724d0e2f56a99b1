package flight

import (
	"context"
	"errors"

	"github.com/pullthrough/pullthrough/upstream"
)

const maxSegmentFailures = 3

// segment is a piece of the blob that readers far ahead of the front wait for.
// Its bytes [start, end) are its own until it is done.
type segment struct {
	start, end int64
	pos        int64         // f.mu guards it
	more       chan struct{} // closed when bytes came or it ended; f.mu guards it
}

// demand makes sure that somebody brings the byte at off soon: the front, a
// segment that is under way, or a new one. f.mu is held.
func (f *Flight) demand(off int64) {
	if f.noRange || f.whole || f.size < 0 || off >= f.size || !f.isLive || len(f.segments) >= maxSegments || f.ctx.Err() != nil {
		return
	}
	soon := f.soon()
	if f.have.end(f.front)+soon >= off {
		return
	}
	for _, s := range f.segments {
		if s.start <= off && off < s.end {
			return
		}
	}
	start := off &^ (segmentAlign - 1)
	if f.have.end(start) > start || start < f.front {
		start = off
	}
	end := min(start+segmentSize, f.size)
	if n := f.have.next(start); n >= 0 {
		end = min(end, n)
	}
	for _, s := range f.segments {
		if s.start < off && s.end > start {
			start = s.end // it ends between start and off
		}
		if s.start > off {
			end = min(end, s.start)
		}
	}
	s := &segment{start: start, end: end, pos: start, more: make(chan struct{})}
	f.segments = append(f.segments, s)
	f.segmentsWG.Go(func() { f.bring(s) })
}

// soon is how many bytes the front brings in about two seconds. f.mu is held.
func (f *Flight) soon() int64 {
	if f.rate.second == 0 {
		return segmentSize
	}
	return max(1<<20, int64(2*f.rate.second))
}

// bring fills a segment.
func (f *Flight) bring(s *segment) {
	err := f.fetch(s)
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, o := range f.segments {
		if o == s {
			f.segments = append(f.segments[:i], f.segments[i+1:]...)
			break
		}
	}
	if err != nil {
		f.segmentFailures++
		class, known := upstream.ClassOf(err)
		if f.segmentFailures >= maxSegmentFailures || known && class == upstream.Protocol {
			f.noRange = true
		}
	}
	close(s.more)
	for w := range f.waiters { // they look again who brings their bytes
		delete(f.waiters, w)
		close(w.ready)
	}
}

// fetch asks for a segment and writes what comes.
func (f *Flight) fetch(s *segment) error {
	ctx, cancel := context.WithCancelCause(f.ctx)
	defer cancel(nil)
	repo, err := f.req.Open(ctx)
	if err != nil {
		return err
	}
	body, err := repo.Blob(ctx, f.req.Digest, s.start, s.end-s.start)
	if err != nil {
		return err
	}
	defer body.Close()
	if body.Offset != s.start {
		return f.protocol(errors.New("ranges are ignored"))
	}
	_, err = f.group.pump(ctx, cancel, body, func(data []byte) (bool, error) {
		data = data[:min(int64(len(data)), s.end-s.pos)]
		if len(data) == 0 {
			return true, nil
		}
		if _, err := f.spool.WriteAt(data, s.pos); err != nil {
			f.failed(err)
			return true, err
		}
		f.publish(s.pos, int64(len(data)), false)
		f.mu.Lock()
		s.pos += int64(len(data))
		close(s.more)
		s.more = make(chan struct{})
		f.mu.Unlock()
		return s.pos == s.end, nil
	})
	return err
}

// segmentsStop waits until no segment writes any more.
func (f *Flight) segmentsStop() {
	f.mu.Lock()
	f.noRange = true
	f.mu.Unlock()
	f.segmentsWG.Wait()
}
