package upstream

import (
	"testing"
	"testing/synctest"
	"time"
)

// A timer that was stopped does not start when net/http tells late that it wrote the
// request, which would end the body.
func TestAnswerTimerStartsNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		expired := false
		timer := &answerTimer{limit: time.Second, expire: func(error) { expired = true }}
		if timer.stop() {
			t.Error("expired before it started")
		}
		timer.start()
		time.Sleep(time.Minute)
		if expired {
			t.Error("expired after it was stopped")
		}
	})
}

// Each start gives the full time.
func TestAnswerTimerStartsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var expired time.Time
		timer := &answerTimer{limit: 10 * time.Second, expire: func(error) { expired = time.Now() }}
		timer.start()
		time.Sleep(9 * time.Second)
		timer.start()
		last := time.Now()
		time.Sleep(time.Minute)
		if !timer.stop() || expired.Sub(last) != 10*time.Second {
			t.Errorf("expired %v after its last start", expired.Sub(last))
		}
	})
}
