package evict_test

import (
	"container/heap"
	"container/list"
	"math"
)

// hits counts the pulls of a trace and those that were hits.
type hits struct {
	t          *trace
	all, daily ratio // daily are the images of jobs, from the second day on
	bytes      ratio
}

type ratio struct{ hits, of int64 }

func (r *ratio) count(hit bool, n int64) {
	r.of += n
	if hit {
		r.hits += n
	}
}

// percent is 100 if there was nothing to hit.
func (r ratio) percent() float64 {
	if r.of == 0 {
		return 100
	}
	return 100 * float64(r.hits) / float64(r.of)
}

func (h *hits) count(r request, hit bool) {
	h.all.count(hit, 1)
	h.bytes.count(hit, h.t.sizes[r.image])
	if h.t.daily[r.image] && r.minute > 24*60 {
		h.daily.count(hit, 1)
	}
}

// queue is a list of images with its bytes, the newest one first.
type queue struct {
	list.List
	t     *trace
	where map[int32]*list.Element
	bytes int64
}

func newQueue(t *trace) *queue { return &queue{t: t, where: map[int32]*list.Element{}} }

func (q *queue) has(image int32) bool { return q.where[image] != nil }

func (q *queue) push(image int32) {
	q.where[image] = q.PushFront(image)
	q.bytes += q.t.sizes[image]
}

func (q *queue) drop(image int32) {
	q.Remove(q.where[image])
	delete(q.where, image)
	q.bytes -= q.t.sizes[image]
}

func (q *queue) pop() int32 {
	image := q.Back().Value.(int32)
	q.drop(image)
	return image
}

// replayFIFO gives up what was stored first.
func replayFIFO(t *trace) hits { return replayQueue(t, false) }

// replayLRU gives up what was used least recently.
func replayLRU(t *trace) hits { return replayQueue(t, true) }

func replayQueue(t *trace, touch bool) hits {
	h := hits{t: t}
	q := newQueue(t)
	for _, r := range t.requests {
		size, hit := t.sizes[r.image], q.has(r.image)
		h.count(r, hit)
		switch {
		case hit && touch:
			q.MoveToFront(q.where[r.image])
		case !hit && size <= t.space:
			for q.bytes+size > t.space {
				q.pop()
			}
			q.push(r.image)
		}
	}
	return h
}

// s3fifo is S3-FIFO as its authors describe it (Yang et al., SOSP 2023), with bytes for
// sizes: a small queue of a tenth of the space, a main queue whose images are put back
// as often as they were used, at most three times, and a ghost queue of the main queue's
// size.
type s3fifo struct {
	small, main, ghost *queue
	uses               map[int32]int
	threshold          int // uses that lead from small to main
	space              int64
}

func replayS3FIFO(t *trace, threshold int) hits {
	h := hits{t: t}
	s := &s3fifo{newQueue(t), newQueue(t), newQueue(t), map[int32]int{}, threshold, t.space}
	for _, r := range t.requests {
		hit := s.small.has(r.image) || s.main.has(r.image)
		h.count(r, hit)
		if hit {
			s.uses[r.image] = min(3, s.uses[r.image]+1)
		} else if t.sizes[r.image] <= s.space-s.space/10 {
			s.store(r.image)
		}
	}
	return h
}

func (s *s3fifo) store(image int32) {
	for s.small.bytes+s.main.bytes+s.small.t.sizes[image] > s.space {
		if s.small.bytes > s.space/10 && s.small.Len() > 0 || s.main.Len() == 0 {
			s.evictSmall()
		} else {
			s.evictMain()
		}
	}
	s.uses[image] = 0
	if s.ghost.has(image) {
		s.ghost.drop(image)
		s.main.push(image)
		return
	}
	s.small.push(image)
}

func (s *s3fifo) evictSmall() {
	for s.small.Len() > 0 {
		image := s.small.pop()
		if s.uses[image] < s.threshold {
			s.ghost.push(image)
			for s.ghost.bytes > s.space-s.space/10 {
				s.ghost.pop()
			}
			return
		}
		s.uses[image] = 0
		s.main.push(image)
		for s.main.bytes > s.space-s.space/10 {
			s.evictMain()
		}
	}
}

func (s *s3fifo) evictMain() {
	for s.main.Len() > 0 {
		image := s.main.pop()
		if s.uses[image] == 0 {
			return
		}
		s.uses[image]--
		s.main.push(image)
	}
}

// replayOptimum gives up what is used again last, which needs to know the future. With
// sizes that differ it is not quite the optimum.
func replayOptimum(t *trace) hits {
	h := hits{t: t}
	next, upcoming := make([]int, len(t.requests)), map[int32]int{}
	for i := len(t.requests) - 1; i >= 0; i-- {
		image := t.requests[i].image
		next[i] = math.MaxInt
		if n, ok := upcoming[image]; ok {
			next[i] = n
		}
		upcoming[image] = i
	}
	stored, bytes, order := map[int32]int{}, int64(0), &byNextUse{}
	for i, r := range t.requests {
		size := t.sizes[r.image]
		_, hit := stored[r.image]
		h.count(r, hit)
		if !hit && (next[i] == math.MaxInt || size > t.space) {
			continue
		}
		if !hit {
			bytes += size
		}
		stored[r.image] = next[i]
		heap.Push(order, nextUse{r.image, next[i]})
		for bytes > t.space {
			e := heap.Pop(order).(nextUse)
			if n, ok := stored[e.image]; ok && n == e.next {
				delete(stored, e.image)
				bytes -= t.sizes[e.image]
			}
		}
	}
	return h
}

type nextUse struct {
	image int32
	next  int
}

type byNextUse []nextUse

func (b byNextUse) Len() int           { return len(b) }
func (b byNextUse) Less(i, j int) bool { return b[i].next > b[j].next }
func (b byNextUse) Swap(i, j int)      { b[i], b[j] = b[j], b[i] }
func (b *byNextUse) Push(x any)        { *b = append(*b, x.(nextUse)) }
func (b *byNextUse) Pop() any {
	last := (*b)[len(*b)-1]
	*b = (*b)[:len(*b)-1]
	return last
}
