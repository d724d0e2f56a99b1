package flight

import (
	"context"
	"errors"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

const (
	batchSize = 256 << 10
	batchTime = 5 * time.Millisecond
	// A read that had to wait and brought little is followed by a nap, so that
	// a slow link costs few reads, writes and wake-ups.
	littleRead = 32 << 10
	blocked    = 200 * time.Microsecond
	gather     = 2 * time.Millisecond
)

func (g *Group) takeBuffer() *[]byte {
	if b, ok := g.buffers.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, batchSize)
	return &b
}

// batch gathers what is read until there is enough or it is old enough.
type batch struct {
	mu         sync.Mutex
	buf        []byte
	start, end int // buf[start:end] has been read and not been taken
	take       func([]byte) (bool, error)
	cancel     context.CancelCauseFunc
	timer      *time.Timer
	armed      bool
	stop       bool
	err        error
}

// watch cuts a connection whose reads bring nothing, or too little, for too long. It
// costs a few stores for each read. The time between reads, in which the bytes are
// written, does not count.
type watch struct {
	idle   time.Duration
	least  func() int64 // bytes per second; 0 means any number
	cancel context.CancelCauseFunc
	silent func(n int64) // called when nothing came after the first n bytes for rivalAfter, and again after as long
	epoch  time.Time
	read   atomic.Int64 // bytes that all reads brought
	since  atomic.Int64 // when the read that is under way began, -1 if none is
	waited atomic.Int64 // how long the reads before it took, since the last judgement
	bytes  atomic.Int64 // that they brought
	timer  *time.Timer
}

func newWatch(idle time.Duration, least func() int64, cancel context.CancelCauseFunc, silent func(n int64)) *watch {
	w := &watch{idle: idle, least: least, cancel: cancel, silent: silent, epoch: time.Now()}
	w.since.Store(-1)
	w.timer = time.AfterFunc(math.MaxInt64, w.judge)
	w.timer.Reset(min(idle, rivalAfter)) // not before the field is set, which judge reads
	return w
}

// judge cuts the connection, or looks again when it could be due.
func (w *watch) judge() {
	read := w.read.Load() // before since: that read may end at any moment
	silent := time.Duration(0)
	if since := w.since.Load(); since >= 0 {
		silent = time.Since(w.epoch) - time.Duration(since)
	}
	if silent >= w.idle {
		w.cancel(errIdle)
		return
	}
	left := w.idle - silent
	if silent >= rivalAfter {
		w.silent(read)
		left = min(left, rivalAfter)
	} else {
		left = min(left, rivalAfter-silent)
	}
	if waited := time.Duration(w.waited.Load()) + silent; waited >= w.idle {
		if float64(w.bytes.Load()) < float64(w.least())*waited.Seconds() {
			w.cancel(errSlow)
			return
		}
		w.waited.Store(-int64(silent)) // it has been counted
		w.bytes.Store(0)
	} else {
		left = min(left, w.idle-waited)
	}
	w.timer.Reset(left)
}

// pump reads body to its end and gives it to take in order, in batches, until
// take wants no more. A connection that sends nothing for g.Idle is cut, and so is
// one that sends less than least in that time; silent is called some time before. n is how
// much was read.
func (g *Group) pump(ctx context.Context, cancel context.CancelCauseFunc, body io.Reader, least func() int64, silent func(n int64), take func([]byte) (bool, error)) (n int64, err error) {
	buf := g.takeBuffer()
	b := &batch{buf: *buf, take: take, cancel: cancel}
	watch := newWatch(g.Idle, least, cancel, silent)
	defer func() {
		watch.timer.Stop()
		b.close()
		g.buffers.Put(buf)
	}()
	for err == nil {
		began := time.Since(watch.epoch)
		watch.since.Store(int64(began))
		var m int
		m, err = body.Read(b.buf[b.end:])
		watch.since.Store(-1)
		waited := time.Since(watch.epoch) - began
		watch.waited.Add(int64(waited))
		watch.bytes.Add(int64(m))
		n += int64(m)
		watch.read.Store(n)
		stop, takeErr := b.put(m, n <= HoldBack || err != nil)
		if takeErr != nil || stop {
			return n, takeErr
		}
		if err == nil && m < littleRead && waited > blocked && n > HoldBack {
			time.Sleep(gather)
		}
	}
	if errors.Is(err, io.EOF) {
		return n, nil
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return n, err
}

// close ends the batch: buf is not used after this.
func (b *batch) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stop = true
	if b.timer != nil {
		b.timer.Stop()
	}
}

// put counts m more bytes and gives them on if it is time.
func (b *batch) put(m int, now bool) (stop bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.end += m
	switch {
	case now || b.end == len(b.buf):
		b.flush()
		b.start, b.end = 0, 0
	case b.end > b.start && !b.armed:
		b.armed = true
		if b.timer == nil {
			b.timer = time.AfterFunc(batchTime, b.late)
		} else {
			b.timer.Reset(batchTime)
		}
	}
	return b.stop, b.err
}

// late gives on what has waited long enough.
func (b *batch) late() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.armed = false
	b.flush()
	if b.stop || b.err != nil {
		b.cancel(nil) // wake the reader
	}
}

// flush gives on what is there. b.mu is held.
func (b *batch) flush() {
	if b.stop || b.err != nil || b.start == b.end {
		return
	}
	b.stop, b.err = b.take(b.buf[b.start:b.end])
	b.start = b.end
}
