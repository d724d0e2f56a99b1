package flight

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/pullthrough/pullthrough/store"
)

// TestPassthrough: what one reader gets that reads without a spool, from an upstream
// that misbehaves. Only a blob that is verified must be right to its last byte; a
// range is as long as it was asked for.
func TestPassthrough(t *testing.T) {
	const size = 300 << 10
	early := fault{cut: 100 << 10, clean: true}
	for name, c := range map[string]struct {
		faults   []fault // of the connections; the last one for all further ones
		off, end int64
		unknown  bool // the size is not known before
		whole    bool
		err      error // how it ends
		atMost   int64 // bytes that it gets then
		conns    int
	}{
		"a range":                       {off: 1000, end: 2000, conns: 1},
		"a range of everything":         {off: 1000, end: 2000, faults: []fault{{ignore: true}}, conns: 1},
		"a range that is cut":           {off: 1000, end: 250 << 10, faults: []fault{{cut: 70 << 10}, {}}, conns: 2},
		"a range, cut and everything":   {off: 1000, end: 250 << 10, faults: []fault{{cut: 70 << 10}, {ignore: true}}, conns: 2},
		"a range that ends early":       {off: 1000, end: 250 << 10, faults: []fault{early, {}}, conns: 2},
		"to the end":                    {off: 1000, end: -1, conns: 1},
		"to an end that is not known":   {off: 1000, end: -1, unknown: true, faults: []fault{{noSize: true, noLength: true}}, conns: 1},
		"to an end that comes early":    {off: 1000, end: -1, faults: []fault{early, {}}, conns: 2},
		"more to the end than there is": {off: 1000, end: -1, faults: []fault{{extra: 100}}, err: ErrSize, atMost: size - 1000, conns: 1},
		"another size":                  {off: 1000, end: -1, faults: []fault{{size: size + 1}}, err: ErrSize, conns: 1},
		"beyond what is asked for":      {off: 1000, end: 2000, faults: []fault{{shift: 5}, {ignore: true}}, conns: 2},
		"whole":                         {end: -1, whole: true, conns: 1},
		"whole, cut":                    {end: -1, whole: true, faults: []fault{{cut: 200 << 10}, {}}, conns: 2},
		"whole, cut and everything":     {end: -1, whole: true, faults: []fault{{cut: 200 << 10}, {ignore: true}}, conns: 2},
		"whole that ends early":         {end: -1, whole: true, faults: []fault{early, {}}, conns: 2},
		"whole and more":                {end: -1, whole: true, faults: []fault{{extra: 100}}, err: ErrSize, atMost: size - HoldBack, conns: 1},
		"whole and wrong":               {end: -1, whole: true, faults: []fault{{flip: 7}}, err: ErrDigest, atMost: size - HoldBack, conns: 1},
		"whole, the half is there":      {off: 150 << 10, end: -1, whole: true, conns: 1},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T) {
				r := newRig(t, size)
				if c.faults != nil {
					r.up.each = func(n int, _ int64) fault { return c.faults[min(n, len(c.faults)-1)] }
				}
				f := &flight{group: r.g, remote: remote{Key: r.key, open: r.request().Open, idle: r.g.Idle}}
				known := int64(size)
				if c.unknown {
					known = -1
				}
				var w bytes.Buffer
				p := newPassthrough(&f.remote, &w, c.off, c.end, known)
				if c.whole { // of a flight that broke with nothing
					if err := p.verify(store.Progress{}, &spoolReader{}); err != nil {
						t.Fatal(err)
					}
				}
				err := f.pass(context.Background(), p)
				if !errors.Is(err, c.err) {
					t.Errorf("error %v, want %v", err, c.err)
				}
				want := r.up.data[c.off:]
				if c.end >= 0 {
					want = r.up.data[c.off:c.end]
				}
				got := w.Bytes()
				switch {
				case c.err == nil && !bytes.Equal(got, want):
					t.Errorf("got %d bytes of %d, or wrong ones", len(got), len(want))
				case c.err != nil && int64(len(got)) > c.atMost:
					t.Errorf("got %d bytes, want at most %d", len(got), c.atMost)
				}
				if p.sent != int64(len(got)) || p.off != c.off+p.sent {
					t.Errorf("it counts %d bytes up to %d, and gave %d", p.sent, p.off, len(got))
				}
				r.wantConnections(c.conns)
			})
		})
	}
}
