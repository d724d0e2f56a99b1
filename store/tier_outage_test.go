package store_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/store"
)

// However many questions wait for an answer when an outage begins, it is one outage: Far is
// tried again after a second.
func TestQuestionsThatHangTogetherAreOneOutage(t *testing.T) {
	inTier(t, func(t *tierTest) {
		img := newImage("a", "one", 9)
		other, _ := t.elsewhere()
		putImage(t, other, img)
		t.far.hangs("Stat")
		var all sync.WaitGroup
		for _, p := range img.all() {
			all.Go(func() {
				if _, err := t.tier.Stat(t.Context(), "a", p.Info.Digest); !errors.Is(err, store.ErrUnavailable) {
					t.Error(err)
				}
				time.Sleep(10 * time.Millisecond)
			})
		}
		all.Wait()
		t.far.works()
		time.Sleep(time.Second)
		if _, err := t.tier.Stat(t.Context(), "a", img.manifest.Info.Digest); err != nil {
			t.Errorf("a second later: %v", err)
		}
	})
}

// A slow reader of a list keeps no other call from a Far that is back.
func TestSlowReaderOfAListAfterAnOutage(t *testing.T) {
	inTier(t, func(t *tierTest) {
		img := newImage("a", "one", 1)
		other, _ := t.elsewhere()
		putImage(t, other, img)
		if err := other.SetTag(t.Context(), "a", "v1", img.tag()); err != nil {
			t.Fatal(err)
		}
		t.outage()
		t.far.meets(func(context.Context) error { time.Sleep(time.Second); return nil }, "TagNames")
		var waited sync.WaitGroup
		waited.Go(func() { // it comes while the list tries Far
			time.Sleep(500 * time.Millisecond)
			if _, err := t.tier.Stat(t.Context(), "a", img.manifest.Info.Digest); err != nil {
				t.Errorf("who waited for the list: %v", err)
			}
		})
		for _, err := range t.tier.TagNames(t.Context(), "a", "") {
			if err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			if _, err := t.tier.Stat(t.Context(), "a", img.manifest.Info.Digest); err != nil || time.Since(begun) > 0 {
				t.Errorf("beside the list, after %v: %v", time.Since(begun), err)
			}
			time.Sleep(time.Minute)
		}
		waited.Wait()
	})
}

// An empty list is an answer, too.
func TestEmptyListAfterAnOutage(t *testing.T) {
	inTier(t, func(t *tierTest) {
		t.outage()
		for name, err := range t.tier.TagNames(t.Context(), "a", "") {
			t.Errorf("listed is %q, %v", name, err)
		}
		begun := time.Now()
		if _, err := t.tier.Stat(t.Context(), "a", newImage("a", "nowhere", 2).manifest.Info.Digest); !errors.Is(err, store.ErrNotFound) || time.Since(begun) > 0 {
			t.Errorf("after the list, and %v: %v", time.Since(begun), err)
		}
	})
}

// The time of the reader of a list is not that of Far, and Far may not take long for an entry.
func TestListsInTheirTime(t *testing.T) {
	inTier(t, func(t *tierTest) {
		img := newImage("a", "one", 1)
		for _, tag := range []string{"v1", "v2", "v3"} {
			if err := t.tier.SetTag(t.Context(), "a", tag, img.tag()); err != nil {
				t.Fatal(err)
			}
		}
		read := func(pause time.Duration) (n int, err error) {
			for _, err := range t.tier.TagNames(t.Context(), "a", "") {
				if err != nil {
					return n, err
				}
				n++
				time.Sleep(pause)
			}
			return n, nil
		}
		if n, err := read(time.Minute); n != 3 || err != nil {
			t.Errorf("read slowly: %d entries, %v", n, err)
		}
		for at, call := range []string{"TagNames 1", "TagNames 2", "TagNames 3", "TagNames end"} {
			t.far.hangs(call)
			begun := time.Now()
			if n, err := read(0); n != at || !errors.Is(err, store.ErrUnavailable) || time.Since(begun) != 10*time.Second {
				t.Errorf("hangs at %d: %d entries, %v, after %v", at, n, err, time.Since(begun))
			}
			t.far.works()
			time.Sleep(time.Minute)
			t.far.fails(call)
			if n, err := read(0); n != at || !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("fails at %d: %d entries, %v", at, n, err)
			}
			t.far.works()
		}
	})
}

// A list of both stores fails if one of them does, wherever that is.
func TestListOfBothStoresIsWhole(t *testing.T) {
	inTier(t, func(t *tierTest) {
		img := newImage("a", "one", 4)
		putImage(t, t.tier, img)
		for _, s := range []*spy{t.near, t.far} {
			for _, call := range []string{"Blobs 1", "Blobs 3", "Blobs 5", "Blobs end"} {
				s.fails(call)
				n, failed := 0, 0
				for _, err := range t.tier.Blobs(t.Context(), "a") {
					if n++; errors.Is(err, errSpy) {
						failed++
					}
				}
				if failed != 1 || n > 6 {
					t.Errorf("far: %v: %s fails: %d entries, %d errors", s == t.far, call, n, failed)
				}
				s.works()
			}
		}
	})
}

// Three failures in a row make an outage, and an answer in between makes that a new row.
func TestFailuresInARow(t *testing.T) {
	inTier(t, func(t *tierTest) {
		good, bad := newImage("a", "good", 1), newImage("a", "bad", 1)
		putImage(t, t.far.Mem, good)
		t.far.fails("Stat " + short(bad.manifest.Info.Digest))
		stat := func(img tierImage) error {
			_, err := t.tier.Stat(t.Context(), "a", img.manifest.Info.Digest)
			return err
		}
		for range 5 {
			if err := errors.Join(stat(bad), stat(bad)); !errors.Is(err, store.ErrUnavailable) {
				t.Error(err)
			}
			if err := stat(good); err != nil {
				t.Errorf("an answer in between: %v", err)
			}
		}
		t.far.take()
		for range 5 {
			if err := stat(bad); !errors.Is(err, store.ErrUnavailable) {
				t.Error(err)
			}
		}
		t.asked(3, "failures in a row")
	})
}

// A caller who leaves is neither a failure nor an answer.
func TestCallersWhoLeaveBetweenFailures(t *testing.T) {
	inTier(t, func(t *tierTest) {
		one, two := newImage("a", "one", 1).manifest.Info.Digest, newImage("a", "two", 1).manifest.Info.Digest
		for range 3 {
			t.far.fails("Stat")
			if _, err := t.tier.Stat(t.Context(), "a", one); !errors.Is(err, store.ErrUnavailable) {
				t.Error(err)
			}
			t.far.hangs("Stat")
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			_, _ = t.tier.Stat(ctx, "a", two)
			cancel()
		}
		t.far.take()
		if _, err := t.tier.Stat(t.Context(), "a", one); !errors.Is(err, store.ErrUnavailable) {
			t.Error(err)
		}
		t.asked(0, "after three failures")
	})
}

// A Far that fails for long is tried every 10 seconds.
func TestPausesOfALongOutage(t *testing.T) {
	inTier(t, func(t *tierTest) {
		d := newImage("a", "one", 1).manifest.Info.Digest
		t.far.fails("")
		ask := func(minutes int) (n int) {
			t.far.take()
			for range minutes * 600 {
				_, _ = t.tier.Stat(t.Context(), "a", d)
				time.Sleep(100 * time.Millisecond)
			}
			return len(t.far.take())
		}
		if n := ask(1); n < 7 || n > 25 {
			t.Errorf("it is tried %d times in the first minute", n)
		}
		if n := ask(10); n < 55 || n > 130 {
			t.Errorf("it is tried %d times in 10 minutes", n)
		}
	})
}

// A call that waits for the one that tries Far may be given up.
func TestWaiterMayLeave(t *testing.T) {
	inTier(t, func(t *tierTest) {
		d := newImage("a", "one", 1).manifest.Info.Digest
		t.outage()
		t.far.hangs("Stat")
		go func() { _, _ = t.tier.Stat(t.Context(), "a", d) }()
		synctest.Wait()
		begun := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := t.tier.Stat(ctx, "a", d); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != time.Second {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
	})
}

// Without a limit, an answer may take any time.
func TestPatienceWithoutLimit(t *testing.T) {
	inTier(t, func(t *tierTest) {
		tier := newTier(t, t.near, t.far)
		tier.Patience = -1
		t.far.meets(func(ctx context.Context) error { time.Sleep(time.Hour); return ctx.Err() }, "Stat")
		if _, err := tier.Stat(t.Context(), "a", newImage("a", "one", 1).manifest.Info.Digest); !errors.Is(err, store.ErrNotFound) {
			t.Error(err)
		}
	})
}

// A Near that does not take what comes from Far is no failure of Far.
func TestNearFailsWhileItComesNear(t *testing.T) {
	for _, call := range []string{"Create", "Write", "Commit"} {
		inTier(t, func(t *tierTest) {
			img := newImage("a", "one", 5)
			putImage(t, t.far.Mem, img)
			t.near.meets(func(context.Context) error { time.Sleep(time.Second); return errSpy }, call)
			tier := newTier(t, bare{t.near}, t.far)
			wantIn(t, "near fails", tier, img)
			time.Sleep(time.Second)
			synctest.Wait()
			wantIn(t, "near has failed at "+call, tier, img)
		})
	}
}

// outage makes an outage of Far, and lets so much time pass that Far may be tried again.
func (t *tierTest) outage() {
	t.Helper()
	t.far.fails("")
	for range 3 {
		if _, err := t.tier.Stat(t.Context(), "a", newImage("a", "nowhere", 1).manifest.Info.Digest); !errors.Is(err, store.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	t.far.works()
	time.Sleep(time.Second)
	synctest.Wait()
}
