package fleet

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A replica that does not answer is asked again after pauses that grow, and is passed over
// until it answers.
func TestPausesOfTheDeadGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHealth()
		lives := false
		var pings []time.Duration
		var mu sync.Mutex
		began := time.Now()
		ping := func() bool {
			mu.Lock()
			defer mu.Unlock()
			pings = append(pings, time.Since(began))
			return lives
		}
		if h.isDead("a", ping) || h.knownDead("a") {
			t.Error("dead before it failed")
		}
		h.failed("a")
		h.failed("a") // together with the first
		for range 3 * 60 * 10 {
			if !h.isDead("a", ping) || !h.knownDead("a") || h.isDead("b", ping) {
				t.Fatal("the wrong one is dead")
			}
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
		}
		var pauses []time.Duration
		last := time.Duration(0)
		for _, at := range pings {
			pauses = append(pauses, at-last)
			last = at
		}
		want := []time.Duration{1, 2, 4, 8, 16, 30, 30, 30, 30}
		if len(pauses) < 6 || len(pauses) > len(want) {
			t.Fatalf("pauses: %v", pauses)
		}
		for i, p := range pauses {
			if least := want[i] * time.Second; p < least || p > least*12/10+200*time.Millisecond {
				t.Errorf("pause %d is %v, want %v and a fifth", i, p, least)
			}
		}
		lives = true
		time.Sleep(time.Minute)
		if !h.isDead("a", ping) {
			t.Error("it lives before it has answered")
		}
		synctest.Wait()
		if h.isDead("a", ping) {
			t.Error("it answered and is dead")
		}
		h.failed("a")
		n := len(pings)
		time.Sleep(1300 * time.Millisecond)
		h.isDead("a", ping)
		synctest.Wait()
		if len(pings) != n+1 || h.knownDead("a") {
			t.Error("the pauses did not begin again")
		}
	})
}

// One that sends a request is asked at once whether it answers, by one ping at a time.
func TestSeenIsWorthAPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHealth()
		pings := make(chan bool)
		begun := 0
		ping := func() bool { begun++; return <-pings }
		h.seen("a") // nobody's failure
		h.failed("a")
		if h.isDead("a", ping); begun != 0 {
			t.Error("a ping before its time")
		}
		h.seen("a")
		for range 3 {
			h.isDead("a", ping)
			synctest.Wait()
			h.seen("a")
		}
		if begun != 1 {
			t.Errorf("%d pings at once", begun)
		}
		pings <- true
		synctest.Wait()
		if h.knownDead("a") {
			t.Error("it answered and is dead")
		}
	})
}

func TestTheDeadAreBounded(t *testing.T) {
	h, s := newHealth(), silences{of: map[string]unheard{}}
	for i := range 3 * maxPeers {
		h.failed(fmt.Sprint(i))
		s.failed(fmt.Sprint(i))
	}
	if n := len(h.dead); n == 0 || n > maxPeers {
		t.Errorf("%d are remembered", n)
	}
	if n := len(s.of); n == 0 || n > maxPeers {
		t.Errorf("of %d it is remembered that they are silent", n)
	}
}

// A blob that is asked for again from its beginning was wrong: who sent bytes of it is passed
// over for it, for a while, and for it alone.
func TestWhoSentWrongBytesIsPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoubts()
		other := testKey
		other.digest = "sha256:other"
		d.partOf(testKey, "old", true)
		time.Sleep(doubtTime)
		d.partOf(testKey, "a", true)
		d.partOf(testKey, "b", true)
		if d.passedOver(testKey, "a") {
			t.Error("passed over before there is a doubt")
		}
		if doubted := d.again(testKey); len(doubted) != 2 {
			t.Errorf("doubted: %v", doubted)
		}
		if !d.passedOver(testKey, "a") || !d.passedOver(testKey, "b") || d.passedOver(testKey, "old") || d.passedOver(testKey, "c") || d.passedOver(other, "a") {
			t.Error("the wrong ones are passed over")
		}
		if doubted := d.again(testKey); len(doubted) != 0 {
			t.Errorf("doubted once more: %v", doubted)
		}
		time.Sleep(doubtTime)
		if d.passedOver(testKey, "a") {
			t.Error("passed over for ever")
		}
	})
}

// What a replica had stored when it sent it is doubted for good, whatever came before or after.
func TestDoubtsAboutWhatIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoubts()
		for _, stored := range []bool{false, true, false} {
			d.partOf(testKey, "a", stored)
			d.partOf(testKey, "b", false)
		}
		d.again(testKey)
		if !d.forGood(testKey, "a") || d.forGood(testKey, "b") || !d.passedOver(testKey, "b") {
			t.Error("what is stored, or is not, is taken for the other")
		}
		for _, stored := range []bool{true, false} {
			d.drags(testKey, "c", stored)
		}
		if !d.forGood(testKey, "c") {
			t.Error("a later doubt takes an earlier one away")
		}
		time.Sleep(doubtTime)
		d.drags(testKey, "c", false)
		if d.forGood(testKey, "c") || d.forGood(testKey, "a") || !d.passedOver(testKey, "c") {
			t.Error("a doubt has no end")
		}
	})
}

// What every failure would log comes once a minute.
func TestSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s seldom
		for range 3 {
			if !s.due() || s.due() {
				t.Error("not once a minute")
			}
			time.Sleep(time.Minute)
		}
	})
}
