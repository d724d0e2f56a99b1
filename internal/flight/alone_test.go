package flight

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

// all pulls the blob with four readers, two of ranges, at once.
func (r *rig) all(check func(got []byte, err error, want []byte)) {
	size := int64(len(r.up.data))
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			got, err := r.get()
			check(got, err, r.up.data)
		})
	}
	for _, off := range []int64{size / 4, size - 7} {
		wg.Go(func() {
			n := min(size-off, size/3)
			got, err := r.cut(off, n)
			check(got, err, r.up.data[off:off+n])
		})
	}
	wg.Wait()
}

func (r *rig) right(got []byte, err error, want []byte) {
	if err != nil || !bytes.Equal(got, want) {
		r.t.Errorf("got %d bytes of %d, %v", len(got), len(want), err)
	}
}

func TestStoreThatFailsHurtsNoReader(t *testing.T) {
	for _, size := range []int{0, 1000, HoldBack, HoldBack + 1, 2 << 20} {
		for name, fail := range map[string]func(s *shelf){
			"no spool":           func(s *shelf) { s.spoolErr = store.ErrFull },
			"full at once":       func(s *shelf) { s.full = 1 },
			"full in the middle": func(s *shelf) { s.full = int64(size) / 2 },
			"full near the end":  func(s *shelf) { s.full = int64(size) - 10 },
			"no commit":          func(s *shelf) { s.commitErr = syscall.EIO },
			"no reader":          func(s *shelf) { s.openErr = func(int) error { return syscall.EMFILE } },
			"no second reader": func(s *shelf) {
				s.openErr = func(n int) error {
					if n == 2 {
						return syscall.EMFILE
					}
					return nil
				}
			},
		} {
			for _, known := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, %d bytes, size known %v", name, size, known), func(t *testing.T) {
					story(t, func(t *testing.T) {
						r := newRig(t, size)
						r.up.each = func(int, int64) fault { return fault{step: 50 << 10, pause: 10 * time.Millisecond} }
						if !known {
							r.size = -1
							r.up.each = func(int, int64) fault {
								return fault{step: 50 << 10, pause: 10 * time.Millisecond, noLength: true, noSize: true}
							}
						}
						fail(r.shelf)
						if size == 0 {
							r.rightWhole(r.get())
							return
						}
						r.all(r.right)
						r.idle()
						if len(r.failed) == 0 && r.shelf.stored == nil {
							t.Error("nobody was told")
						}
					})
				})
			}
		}
	}
}

func (r *rig) rightWhole(got []byte, err error) { r.right(got, err, r.up.data) }

func TestAloneOverCuts(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 2<<20)
		r.shelf.full = 512 << 10
		r.up.heads = true // or the faults below would hit those who ask first
		r.up.each = func(n int, _ int64) fault {
			switch n % 4 {
			case 0:
				return fault{cut: 700 << 10}
			case 1:
				return fault{ignore: true, cut: 1500 << 10}
			case 2:
				return fault{cut: 100 << 10, hang: true}
			}
			return fault{err: problem(upstream.Unreachable, 502)}
		}
		r.all(r.right)
	})
}

// The hold-back is each reader's own when it reads alone.
func TestAloneWrongBytesNeverEnd(t *testing.T) {
	const size = 400 << 10
	for _, at := range []int64{0, 150 << 10, 250 << 10, size - 1} {
		for _, full := range []int64{1, 100 << 10, 200 << 10, size - HoldBack + 5, size - 3} {
			for _, known := range []bool{true, false} {
				t.Run(fmt.Sprintf("byte %d, full at %d, size known %v", at, full, known), func(t *testing.T) {
					story(t, func(t *testing.T) {
						r := newRig(t, size)
						if !known {
							r.size = -1
						}
						r.shelf.full = full
						r.up.each = func(int, int64) fault {
							return fault{flip: at + 1, noSize: !known, noLength: !known, step: 40 << 10, pause: time.Millisecond}
						}
						var wg sync.WaitGroup
						for range 3 {
							wg.Go(func() {
								got, err := r.get()
								if err == nil || len(got) > size-HoldBack {
									t.Errorf("got %d of %d, %v", len(got), size, err)
								}
							})
						}
						wg.Wait()
						r.wantStored(false)
					})
				})
			}
		}
	}
}

// A reader that got bytes of a segment before the store failed: they are what
// must be hashed, not what the upstream sends the second time.
func TestAloneHashesWhatTheReaderGot(t *testing.T) {
	const size = 24 << 20
	story(t, func(t *testing.T) {
		r := newRig(t, size)
		r.up.each = r.segments(fault{flip: 11<<20 + 1}, fault{step: 256 << 10, pause: 10 * time.Millisecond})
		r.shelf.openErr = func(n int) error {
			if n > 2 { // the two readers; the third one is the front, which hashes the segment
				return syscall.EMFILE
			}
			return nil
		}
		var got []byte
		var err error
		var wg sync.WaitGroup
		wg.Go(func() { got, err = r.get() })
		wg.Go(func() { _, _ = r.cut(10<<20, 4<<20) })
		wg.Wait()
		if len(got) < 11<<20 || got[11<<20] == r.up.data[11<<20] {
			t.Errorf("the reader did not get the wrong byte: %d", len(got))
		}
		if err == nil || len(got) > size-HoldBack {
			t.Errorf("wrong bytes under a clean end: %d, %v", len(got), err)
		}
	})
}

func TestAloneKeepsToTheSlots(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 1<<20)
		r.g.Downloads, r.g.PerHost = 2, 2
		r.shelf.spoolErr = store.ErrFull
		r.up.heads = true // a question for the size holds no slot
		most := 0
		r.up.each = func(int, int64) fault {
			r.up.mu.Lock()
			most = max(most, r.up.open+1)
			r.up.mu.Unlock()
			return fault{step: 64 << 10, pause: 100 * time.Millisecond}
		}
		var wg sync.WaitGroup
		for range 9 {
			wg.Go(func() { r.rightWhole(r.get()) })
		}
		wg.Wait()
		if most > 2 {
			t.Errorf("%d downloads at once", most)
		}
	})
}

func TestAloneSmallIsVerifiedBeforeItsHeader(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 1000)
		r.shelf.spoolErr = store.ErrFull
		r.up.each = func(int, int64) fault { return fault{flip: 9} }
		h := r.join(false)
		defer h.Close()
		if _, err := h.Header(client()); !errors.Is(err, ErrDigest) {
			t.Error(err)
		}
	})
}

func TestJobLearnsThatTheStoreIsFull(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 1<<20)
		r.shelf.spoolErr = store.ErrFull
		job := r.join(true)
		defer job.Close()
		if err := job.Wait(client()); !Broken(err) || !errors.Is(err, store.ErrFull) {
			t.Error(err)
		}
		r.idle()
		r.shelf.spoolErr, r.shelf.commitErr = nil, store.ErrFull
		again := r.join(true)
		defer again.Close()
		if err := again.Wait(client()); !Broken(err) || !errors.Is(err, store.ErrFull) {
			t.Error(err)
		}
	})
}

func TestStoredMeanwhile(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 1<<20)
		r.shelf.linked = true
		r.want()
		r.wantStored(true)
		if _, err := r.get(); !errors.Is(err, ErrStored) {
			t.Error(err)
		}
		r.wantConnections(1)
	})
}
