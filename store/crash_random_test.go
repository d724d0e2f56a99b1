package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
)

// crashes is how often the power goes, unless the variable PULLTHROUGH_CRASHES says it.
func crashes(t *testing.T, n int) int {
	text := os.Getenv("PULLTHROUGH_CRASHES")
	if text == "" {
		return n
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("PULLTHROUGH_CRASHES: %v", err)
	}
	return n
}

// TestPowerLossInRandomStories tells random stories, several at the same time, ends each
// at a random step of the store's life or of its opening, by a kill or by a loss of power,
// and goes on with what is left, up to four times.
func TestPowerLossInRandomStories(t *testing.T) {
	all := pieces()
	for seed := range crashes(t, 120) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			newLives(t, all, uint64(seed)).live()
		})
	}
}

// lives are the lives of one store.
type lives struct {
	*testing.T
	m       *machine
	random  *rand.Rand
	tellers []*teller
	opened  bool // once at least: before that, what was begun counts as damaged
	lost    bool // the power has gone
}

func newLives(t *testing.T, all []piece, seed uint64) *lives {
	l := &lives{T: t, m: newMachine(t.TempDir()), random: rand.New(rand.NewPCG(seed, 3))}
	for i := range 1 + l.random.IntN(3) {
		l.tellers = append(l.tellers, &teller{
			name: string(rune('a' + i)), random: rand.New(rand.NewPCG(seed, uint64(10+i))), pieces: all, over: l.m.over, now: make(state),
		})
	}
	return l
}

// live ends the store up to four times, and once more looks at it.
func (l *lives) live() {
	died := false // while it was opened
	for range 1 + l.random.IntN(4) {
		steps := l.random.IntN(200)
		if !died && l.random.IntN(3) == 0 {
			steps = l.random.IntN(25)
		} else if died {
			steps += 30 // two such deaths in a row count as damage
		}
		l.m.until(steps)
		d := l.open()
		died = d == nil
		if d != nil {
			l.tell(d)
		}
		if l.Failed() {
			return
		}
		if l.random.IntN(4) > 0 {
			l.lost = true
			chance := []float64{0, 0.5, 0.9, 1}[l.random.IntN(4)]
			l.m.lose(l, l.random, func(int) bool { return l.random.Float64() < chance })
		}
	}
	l.m.until(1 << 30)
	d := l.open()
	if d == nil {
		return
	}
	l.again(d)
	if err := d.Close(); err != nil {
		l.Errorf("Close: %v", err)
	}
}

// open opens the store, and looks at what is there. It returns nil if the power goes.
func (l *lives) open() *Dir {
	d := new(Dir)
	d.disk.Step, d.disk.NoSync = l.m.hook, true
	err := d.openAt(l.m.path)
	if l.m.over() {
		if err == nil {
			d.crash()
		}
		return nil
	}
	if err != nil {
		l.Errorf("OpenDir: %v", err)
		return nil
	}
	if err := d.Rebuilt(); err != nil && l.opened {
		l.Errorf("the index did not survive: %v", err)
	}
	l.opened = true
	d.tick.work.Wait() // for the sweep
	if l.m.over() {
		d.crash()
		return nil
	}
	stop := l.m.stop
	l.m.stop = 1 << 30 // to look takes steps, too
	defer func() { l.m.stop = stop }()
	for _, w := range l.tellers {
		w.d = d
		w.check(l, l.lost)
	}
	audit(l, d)
	l.lost = false
	return d
}

// tell tells the stories until the power goes.
func (l *lives) tell(d *Dir) {
	var wg sync.WaitGroup
	for _, w := range l.tellers {
		wg.Go(func() {
			if err := w.tell(l.Context()); err != nil {
				l.Errorf("%s: %v", w.name, err)
			}
		})
	}
	wg.Wait()
	d.crash()
}

// again writes all that there is once more.
func (l *lives) again(d *Dir) {
	for _, w := range l.tellers {
		for _, p := range w.pieces {
			repo := w.repo()
			if err := errors.Join(w.create(l.Context(), repo, p.info, p.data),
				d.SetTag(l.Context(), repo, "last", Tag{Descriptor: p.info.Descriptor, Source: "new", Asked: asked(1000)})); err != nil {
				l.Errorf("life does not go on: %v", err)
			}
			wantBlob(l, d, repo, p.info.Digest, p.data)
		}
	}
	audit(l, d)
}
