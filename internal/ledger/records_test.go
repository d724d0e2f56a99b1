package ledger_test

import (
	"context"
	"errors"
	"iter"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/internal/ledger"
	"github.com/pullthrough/pullthrough/internal/recordset"
	"github.com/pullthrough/pullthrough/store"
)

// broken is a store whose records can be damaged, slow or not listed.
type broken struct {
	*store.Mem
	slow    time.Duration // to list
	slowPut time.Duration
	listed  error
	write   error
}

func (b *broken) RecordKeys(ctx context.Context, kind string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		time.Sleep(b.slow)
		if b.listed != nil {
			yield("", b.listed)
			return
		}
		b.Mem.RecordKeys(ctx, kind)(yield)
	}
}

func (b *broken) PutRecord(ctx context.Context, kind, key string, data []byte) error {
	time.Sleep(b.slowPut)
	if b.write != nil {
		return b.write
	}
	return b.Mem.PutRecord(ctx, kind, key, data)
}

func TestRecordsThatCannotBeUsed(t *testing.T) {
	inBubble(t, func(w *world) {
		b := &broken{Mem: w.store}
		w.cfg.Records = b
		w.restart()
		w.comesTo(image(1), errHost)
		w.add(image(1), "v1")
		if err := w.store.PutRecord(w.Context(), "jobs", "damaged", []byte("{")); err != nil {
			w.Fatal(err)
		}
		w.restart()
		w.want(image(1), ledger.Paused, 1) // and the damaged one was dropped
		if !strings.Contains(w.logs.String(), "cannot be understood") {
			w.Error(w.logs.String())
		}
		b.listed = errors.New("the disk is broken")
		w.restart()
		if err := w.ledger.Unread(); !errors.Is(err, b.listed) || w.ledger.Len() != 0 {
			w.Errorf("%v, %d jobs", err, w.ledger.Len())
		}
		b.listed, b.write = nil, errors.New("the disk is full")
		w.restart()
		w.comesTo(image(2), errHost)
		w.add(image(2), "v2")
		w.add(image(2), "v3")
		if n := strings.Count(w.logs.String(), "records of copy jobs cannot be written"); n != 1 {
			w.Errorf("the log says %d times that records cannot be written", n)
		}
	})
}

// A job that is added while the records are read waits for them.
func TestAddBeforeTheRecordsAreRead(t *testing.T) {
	inBubble(t, func(w *world) {
		w.comesTo(image(1), errHost)
		w.add(image(1), "v1")
		w.cfg.Records = &broken{Mem: w.store, slow: 3 * time.Second}
		w.comesTo(image(1), nil)
		w.restart()
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		if _, err := w.ledger.Add(ctx, nil, image(1), ledger.Job{Repository: repo, Source: source}, w.facts(image(1))); !errors.Is(err, context.DeadlineExceeded) {
			w.Error(err)
		}
		if _, err := w.ledger.Retry(ctx, func(ledger.Job) bool { return true }); !errors.Is(err, context.DeadlineExceeded) {
			w.Error(err)
		}
		w.add(image(1), "v2")
		w.pass(2 * time.Minute)
		w.wantMoved("v1", "v2")
	})
}

// A job that ends before its record is written, and comes again, has a record.
func TestRecordOfAJobThatComesAgain(t *testing.T) {
	inBubble(t, func(w *world) {
		for range 50 {
			w.add(image(1), "v1")
			w.comesTo(image(1), errHost)
			delete(w.stored, key(image(1)))
			w.add(image(1), "v2")
			w.want(image(1), ledger.Paused, len(w.runs))
			w.comesTo(image(1), nil)
			w.ledger.Retry(w.Context(), func(ledger.Job) bool { return true })
			synctest.Wait()
			w.want(image(1), "", len(w.runs))
		}
	})
}

// After Close nothing begins, and who waits gets the cause.
func TestClosed(t *testing.T) {
	inBubble(t, func(w *world) {
		release := w.hold()
		defer release()
		h := w.add(image(1), "v1")
		ended := make(chan error, 2)
		go func() { ended <- h.Wait(w.Context(), false) }()
		go func() { ended <- w.ledger.Idle(w.Context()) }()
		synctest.Wait()
		w.ledger.Close()
		for range 2 {
			if err := <-ended; !errors.Is(err, errClosed) {
				w.Error(err)
			}
		}
		w.add(image(2), "v2")
		w.pass(time.Hour)
		if len(w.runs) != 1 || w.logs.Len() != 0 || len(w.parked) != 0 {
			w.Errorf("runs %v, parked %v, logs %s", w.runs, w.parked, w.logs.String())
		}
		w.gate = nil
		w.start()
		w.wantMoved("v1")
	})
}

func TestIdle(t *testing.T) {
	inBubble(t, func(w *world) {
		if err := w.ledger.Idle(w.Context()); err != nil {
			w.Error(err)
		}
		w.comesTo(image(2), errHost)
		w.add(image(2))
		release := w.hold()
		w.add(image(1), "v1")
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		if err := w.ledger.Idle(ctx); !errors.Is(err, context.DeadlineExceeded) {
			w.Error(err)
		}
		idle := make(chan error, 1)
		go func() { idle <- w.ledger.Idle(w.Context()) }()
		w.ledger.Forget(repo, image(1).Digest.String()) // it runs on nevertheless
		w.pass(time.Second)
		select {
		case err := <-idle:
			w.Errorf("idle while a forgotten copy runs: %v", err)
		default:
		}
		synctest.Wait()
		release()
		if err := <-idle; err != nil || w.state(image(2)) != ledger.Paused {
			w.Errorf("%v, %q", err, w.state(image(2)))
		}
	})
}

// talkative is an error of an embedder's, whose methods ask the ledger.
type talkative struct{ w *world }

func (t talkative) Error() string     { t.w.ledger.Copies(""); return "I asked" }
func (t talkative) Is(err error) bool { t.w.ledger.Len(); return false }

// TestErrorsMayCallBack: the methods of an error run without the lock.
func TestErrorsMayCallBack(t *testing.T) {
	inBubble(t, func(w *world) {
		w.comesTo(image(1), talkative{w})
		w.add(image(1), "v1")
		w.want(image(1), ledger.Paused, 1)
		w.comesTo(image(2), ledger.ErrHandedOver)
		w.add(image(2), "v2")
		for _, c := range w.ledger.Copies("") {
			if c.State == ledger.Submitted {
				w.ledger.Elsewhere(c.Job).End(talkative{w})
			}
		}
		w.want(image(2), ledger.Paused, 2)
		if c := w.ledger.Copies("")[0]; c.Job.Error != "I asked" {
			w.Errorf("%+v", c.Job)
		}
	})
}

// While a Worker holds the record of its job, nobody else writes it, and a tag that comes
// meanwhile is written when it lets go, though the Worker has deleted the record.
func TestHeldRecord(t *testing.T) {
	inBubble(t, func(w *world) {
		w.comesTo(image(1), ledger.ErrHandedOver)
		w.add(image(1), "v1")
		run := w.ledger.Elsewhere(w.ledger.Copies("")[0].Job)
		held := run.Hold(w.Context())
		c := held.Deletion()
		if err := w.store.DeleteRecord(w.Context(), c.Kind, c.Key); err != nil {
			w.Fatal(err)
		}
		h, err := w.ledger.Add(w.Context(), nil, image(1), ledger.Job{
			Repository: repo, Source: source, Tags: []ledger.Tag{{Name: "v2", Seen: time.Now()}}}, w.facts(image(1)))
		if err != nil {
			w.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		if h.Recorded(ctx); ctx.Err() == nil {
			w.Error("the record was written while it was held")
		}
		if _, err := w.store.Record(w.Context(), c.Kind, c.Key); !errors.Is(err, store.ErrNotFound) {
			w.Error(err)
		}
		held.Release()
		h.Recorded(w.Context())
		if data, err := w.store.Record(w.Context(), c.Kind, c.Key); err != nil || !strings.Contains(string(data), `"v2"`) {
			w.Errorf("%s, %v", data, err)
		}
		run.End(nil)
	})
}

// What a Worker writes of its job meanwhile has what is owed, and is nothing of a job that was
// forgotten, whose record would come back.
func TestHeldRecordOfAForgottenJob(t *testing.T) {
	inBubble(t, func(w *world) {
		w.comesTo(image(1), ledger.ErrHandedOver)
		w.add(image(1), "v1")
		run := w.ledger.Elsewhere(w.ledger.Copies("")[0].Job)
		held := run.Hold(w.Context())
		run.Owes(run.TagsLeft()[0])
		if c, ok := held.Now(); !ok || !strings.Contains(string(c.Data), `"due":true`) {
			w.Errorf("%s, %v", c.Data, ok)
		}
		w.ledger.Forget(repo, image(1).Digest.String())
		if c, ok := held.Now(); ok {
			w.Errorf("%s", c.Data)
		}
		held.Release()
		run.End(nil)
	})
}

// Records that wait are written as one.
func TestRecordsAreWrittenAsOne(t *testing.T) {
	inBubble(t, func(w *world) {
		var sizes []int
		gate := make(chan struct{})
		w.cfg.Write = func(ctx context.Context, changes []recordset.Change) error {
			sizes = append(sizes, len(changes))
			<-gate
			return nil
		}
		w.restart()
		for i := range 5 {
			w.comesTo(image(i), ledger.ErrHandedOver)
			go func() {
				_, err := w.ledger.Add(w.Context(), nil, image(i), ledger.Job{Repository: repo, Source: source}, w.facts(image(i)))
				if err != nil {
					w.Error(err)
				}
			}()
		}
		synctest.Wait()
		close(gate)
		synctest.Wait()
		sum := 0
		for _, n := range sizes {
			sum += n
		}
		if len(sizes) > 2 || sum != 5 { // all of them, or those that came while the first was written
			w.Errorf("%v records were written at once", sizes)
		}
	})
}
