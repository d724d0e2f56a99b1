package flight

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestOneGetWhateverTheNumberOfReaders(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 1<<20)
		r.up.each = func(int, int64) fault { return fault{step: 16 << 10, pause: 10 * time.Millisecond} }
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 10 * time.Millisecond)
				r.want()
			})
		}
		wg.Wait()
		r.wantStored(true)
		r.wantConnections(1)
		r.wantOnce()
	})
}

func TestLateJoinerGetsByteZeroAtOnce(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 1<<20)
		r.up.each = func(int, int64) fault { return fault{step: 64 << 10, pause: time.Second} }
		job := r.join(true)
		defer job.Close()
		time.Sleep(8500 * time.Millisecond)
		began := time.Now()
		if _, err := r.cut(0, 512<<10); err != nil {
			t.Error(err)
		}
		if d := time.Since(began); d != 0 {
			t.Errorf("half of the blob is there, its first half came after %v", d)
		}
		r.want()
		if d := time.Since(began); d > 9*time.Second {
			t.Errorf("the whole came after %v", d)
		}
		r.wantConnections(1)
	})
}

func TestReadersThatLeaveDoNotStopIt(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 1<<20)
		r.up.each = func(int, int64) fault { return fault{step: 64 << 10, pause: time.Second} }
		h := r.join(false)
		if _, err := h.Header(client()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(client(), 4*time.Second)
		defer cancel()
		n, err := h.Send(ctx, io.Discard, nil, 0, r.size, true)
		if n == 0 || n == r.size || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("sent %d, err %v", n, err)
		}
		h.Close()
		r.wantStored(true)
		r.wantConnections(1)
	})
}

// gate is a writer that blocks until it is opened.
type gate struct {
	bytes.Buffer
	open <-chan struct{}
}

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	return g.Buffer.Write(p)
}

// ReadFrom hides that of the buffer, which does not block.
func (g *gate) ReadFrom(r io.Reader) (int64, error) { return io.Copy(struct{ io.Writer }{g}, r) }

func TestSlowReaderSlowsNobody(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 4<<20)
		r.up.each = func(int, int64) fault { return fault{step: 1 << 20, pause: time.Second} }
		open := make(chan struct{})
		slow := &gate{open: open}
		done := make(chan error)
		go func() { done <- r.getTo(slow) }()
		synctest.Wait()
		began := time.Now()
		r.want()
		if d := time.Since(began); d > 18*time.Second {
			t.Errorf("another reader needed %v", d)
		}
		r.idle()
		if front, _, ok := r.g.Peek(r.key); ok && front != r.size {
			t.Errorf("the front is at %d", front)
		}
		if !bytes.Equal(r.shelf.stored, r.up.data) {
			t.Error("not stored yet")
		}
		close(open)
		if err := <-done; err != nil || !bytes.Equal(slow.Bytes(), r.up.data) {
			t.Errorf("slow reader: %v", err)
		}
		r.wantConnections(1)
	})
}

// A reader that has its own file does not keep the spool: the next flight of
// the same blob, if the first could not be stored, must not find it in use, nor
// wait for the slow reader.
func TestSlowReaderOccupiesNoSpool(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 1<<20)
		r.shelf.commitErr = errors.New("no")
		open := make(chan struct{})
		slow := &gate{open: open}
		done := make(chan error)
		go func() { done <- r.getTo(slow) }()
		time.Sleep(time.Second)
		if n := r.g.Len(); n != 0 {
			t.Errorf("%d flights are left", n)
		}
		r.shelf.mu.Lock()
		r.shelf.commitErr = nil
		r.shelf.mu.Unlock()
		ctx, cancel := context.WithTimeout(client(), time.Minute)
		defer cancel()
		if h, err := r.g.Join(ctx, r.request()); err != nil {
			t.Error(err)
		} else if err := h.Wait(ctx); err != nil {
			t.Error(err)
		} else {
			h.Close()
		}
		close(open)
		if err := <-done; err != nil || !bytes.Equal(slow.Bytes(), r.up.data) {
			t.Errorf("slow reader: %v", err)
		}
		r.wantStored(true)
	})
}

func TestManySlowReadersNeedLittleMemory(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 2<<20)
		open := make(chan struct{})
		var wg sync.WaitGroup
		heap := func() int64 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return int64(m.HeapAlloc)
		}
		r.want()
		r.shelf.stored = nil
		before := heap()
		for range 200 {
			wg.Go(func() {
				if err := r.getTo(&blackHole{open: open}); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if used := heap() - before - r.size; used > 16<<20 {
			t.Errorf("200 slow readers need %d MiB", used>>20)
		}
		close(open)
		wg.Wait()
		r.wantConnections(2)
	})
}

type blackHole struct{ open <-chan struct{} }

func (b *blackHole) Write(p []byte) (int, error) {
	<-b.open
	return len(p), nil
}

func TestFlushComesBeforeSleep(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 1<<20)
		r.up.each = func(int, int64) fault { return fault{cut: 1000, hang: true} }
		h := r.join(false)
		defer h.Close()
		_, _ = h.Header(client())
		var w bytes.Buffer
		var flushed []int
		ctx, cancel := context.WithTimeout(client(), time.Second)
		defer cancel()
		_, _ = h.Send(ctx, &w, func() { flushed = append(flushed, w.Len()) }, 0, r.size, true)
		if w.Len() != 1000 || len(flushed) == 0 || flushed[len(flushed)-1] != 1000 {
			t.Errorf("got %d bytes, flushed after %v", w.Len(), flushed)
		}
	})
}
