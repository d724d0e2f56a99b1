package flight

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

// pieces is a sink that asks for a blob in pieces of the same length.
type pieces struct {
	got    bytes.Buffer
	length int64
	size   int64
	tries  tries
	refuse func() error // what write returns, if not nil
	failed []error
}

func (p *pieces) next() (span, bool, error) {
	pos := int64(p.got.Len())
	return span{pos, min(pos+p.length, p.size)}, pos == p.size, nil
}

func (p *pieces) accept(upstream.Body, time.Duration) error { return nil }

func (p *pieces) write(data []byte) (bool, error) {
	if p.refuse != nil {
		return true, p.refuse()
	}
	p.got.Write(data)
	return false, nil
}

func (p *pieces) judgeConnection(_ upstream.Body, n, taken int64) error {
	if n < taken {
		return errors.New("more was taken than came")
	}
	return nil
}

func (p *pieces) backOff(err error, taken, off int64) (time.Duration, error) {
	p.failed = append(p.failed, err)
	if off != int64(p.got.Len()) {
		return 0, errors.New("failed somewhere else")
	}
	pause, again := p.tries.next(err, taken, off)
	if !again {
		return 0, err
	}
	return pause, nil
}

// pull fills p from r's upstream.
func (r *rig) pull(ctx context.Context, p *pieces) error {
	f := &flight{group: r.g, remote: remote{Key: r.key, open: r.request().Open, idle: r.g.Idle}}
	p.size, p.tries.answered = r.size, true
	return f.pull(ctx, &p.tries, p)
}

// Failures count in a row: a connection that brought what was asked for ends the
// row, however little that was.
func TestPullCountsStallsInARow(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 4000)
		r.up.each = func(n int, _ int64) fault {
			if n%4 < 3 {
				return fault{err: problem(upstream.Unreachable, 502)}
			}
			return fault{}
		}
		p := &pieces{length: 1000}
		if err := r.pull(context.Background(), p); err != nil || !bytes.Equal(p.got.Bytes(), r.up.data) {
			t.Errorf("%d bytes, %v", p.got.Len(), err)
		}
		if len(p.failed) != 12 {
			t.Errorf("%d connections failed, want 12", len(p.failed))
		}
	})
}

// A writer that fails is not the upstream's fault, even if the reader has left.
func TestPullEndsWithItsWriter(t *testing.T) {
	for _, left := range []bool{false, true} {
		story(t, func(t *testing.T) {
			r := newRig(t, 4000)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			p := &pieces{length: 4000, refuse: func() error {
				if left {
					cancel()
				}
				return &writeError{errHangUp}
			}}
			if err := r.pull(ctx, p); err != errHangUp || len(p.failed) != 0 {
				t.Errorf("%v after %d failures", err, len(p.failed))
			}
			r.wantConnections(1)
		})
	}
}

// A small blob that is fetched for one reader alone gives its slot back, however
// that ends.
func TestAloneSmallGivesItsSlotBack(t *testing.T) {
	for name, f := range map[string]fault{"right": {}, "wrong": {flip: 9}} {
		story(t, func(t *testing.T) {
			r := newRig(t, 1000)
			r.shelf.spoolErr = store.ErrFull
			r.up.each = func(int, int64) fault { return f }
			for range 2 {
				h := r.join(false)
				if _, err := h.Header(client()); (err == nil) != (name == "right") {
					t.Errorf("%s: %v", name, err)
				}
				h.Close()
			}
			if _, n := r.g.slots.Held(""); n != 0 {
				t.Errorf("%s: %d slots are held", name, n)
			}
		})
	}
}
