package flight

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/upstream"
)

// While a size is in doubt no byte is given out before the digest has matched;
// then all are.
func TestDoubtWaitsForTheDigest(t *testing.T) {
	for name, f := range map[string]fault{
		"with a size": {}, "without": {noSize: true, noLength: true},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T) {
				r := newRig(t, 1<<20)
				f.step, f.pause = 128<<10, time.Second
				r.up.each = func(int, int64) fault { return f }
				req := r.request()
				req.Size, req.Doubt = -1, true
				h, err := r.g.Join(client(), req)
				if err != nil {
					t.Fatal(err)
				}
				defer h.Close()
				began := time.Now()
				size, err := h.Header(client())
				if err != nil || size != 1<<20 {
					t.Errorf("size %d, %v", size, err)
				}
				if d := time.Since(began); d < 8*time.Second {
					t.Errorf("the header came after %v, before the last byte", d)
				}
				var w bytes.Buffer
				if _, err := h.Send(client(), &w, nil, 0, size, true); err != nil || !bytes.Equal(w.Bytes(), r.up.data) {
					t.Errorf("%d bytes, %v", w.Len(), err)
				}
				r.wantStored(true)
				r.wantConnections(1)
			})
		})
	}
}

// Wrong bytes of a doubtful size reach nobody, not even by a range.
func TestDoubtGivesOutNothingWrong(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 1<<20)
		r.up.each = func(int, int64) fault { return fault{flip: 10, step: 128 << 10, pause: time.Second} }
		req := r.request()
		req.Size, req.Doubt = -1, true
		h, err := r.g.Join(client(), req)
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		_, err = h.Header(client())
		r.wantClass(err, upstream.Protocol)
		if !errors.Is(err, ErrDigest) {
			t.Error(err)
		}
		r.wantStored(false)
	})
}

// An upstream that announces more than there is does not keep readers waiting with
// one try after the other.
func TestDoubtEndsAtTheFirstCut(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 1<<20)
		r.up.each = func(int, int64) fault { return fault{cut: 512 << 10} }
		req := r.request()
		req.Size, req.Doubt = -1, true
		h, err := r.g.Join(client(), req)
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		began := time.Now()
		_, err = h.Header(client())
		e, ok := errors.AsType[*upstream.Error](err)
		if !ok || e.Class != upstream.Protocol || e.Reason != "the connection ended early" {
			t.Errorf("%v, want an answer that cannot be used", err)
		}
		if d := time.Since(began); d > time.Second {
			t.Errorf("it was tried for %v", d)
		}
	})
}

// That the rule cannot be found just now is no end of the rule.
func TestRuleThatCannotBeFoundNow(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 1<<20)
		fails := 3
		r.up.each = func(n int, _ int64) fault { return fault{cut: 256 << 10} }
		r.up.gone = func() error {
			if r.up.opens > 1 && fails > 0 {
				fails--
				return problem(upstream.Unreachable, 0)
			}
			return nil
		}
		r.want()
		r.wantStored(true)
		if fails != 0 {
			t.Error("the rule was always found")
		}
	})
}
