package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/pullthrough/pullthrough/store"
)

func checkpointChecks() []Check {
	return []Check{
		{"checkpoint/resume", "After Keep, the next spool resumes with the bytes up to the last checkpoint and its hash state; Commit then makes it content.", law(resume)},
		{"checkpoint/last", "Only the last checkpoint counts; without one, nothing is resumed.", law(lastCheckpoint)},
		{"checkpoint/spans", "What a checkpoint vouches for beyond its front is there when the spool is resumed, or is not vouched for any more.", law(checkpointSpans)},
		{"checkpoint/apart", "A kept spool is resumed only for its own repository, origin and digest.", law(keptApart)},
		{"checkpoint/over", "After Commit or Close there is nothing to resume.", law(nothingKept)},
		{"checkpoint/race", "Checkpoint, Commit and Close may run concurrently.", law(checkpointRace)},
	}
}

func checkpointer(s store.Spool) store.Checkpointer {
	c, is := s.(store.Checkpointer)
	if !is {
		panic(failure{fmt.Errorf("%w: no store.Checkpointer", errors.ErrUnsupported)})
	}
	return c
}

func wantProgress(s store.Spool, want store.Progress) {
	got := checkpointer(s).Progress()
	if got.Front != want.Front || got.Size != want.Size || !bytes.Equal(got.Hash, want.Hash) {
		failf("progress: got %+v, want %+v", got, want)
	}
}

func upTo(front, size int, hash string) store.Progress {
	return store.Progress{Front: int64(front), Size: int64(size), Hash: []byte(hash)}
}

func checkpointSpans(k *kit) {
	for i, n := range spoolSizes() {
		if n < 100 {
			continue
		}
		p := blob(uint64(900+i), n, originA+"/x")
		s := k.spool("a", p)
		writeAt(s, p, 0, n/4)
		writeAt(s, p, n/2, n*3/4)
		want := upTo(n/4, n, "state")
		want.Spans = []store.Span{{Start: int64(n / 2), End: int64(n * 3 / 4)}}
		bad := want
		bad.Spans = []store.Span{{Start: int64(n / 2), End: int64(n)}}
		if checkpointer(s).Checkpoint(bad) == nil {
			failf("a checkpoint for bytes that were not written was taken")
		}
		ok(checkpointer(s).Checkpoint(want), "Checkpoint")
		ok(checkpointer(s).Keep(), "Keep")

		s = k.spool("a", p)
		wantProgress(s, want)
		spans := checkpointer(s).Progress().Spans
		writeAt(s, p, n/4, n/2)
		if len(spans) == 0 { // forgotten, as a store may
			writeAt(s, p, n/2, n*3/4)
		} else if !slices.Equal(spans, want.Spans) {
			failf("spans: got %v, want %v", spans, want.Spans)
		}
		writeAt(s, p, n*3/4, n)
		ok(s.Commit(k.ctx, p.Info), "Commit")
		ok(s.Close(), "Close")
		k.present("a", p)
	}
}

func resume(k *kit) {
	for i, n := range spoolSizes() {
		for j, size := range []int{n, -1} {
			p := blob(uint64(2*i+j), n, originA+"/x")
			p.Size = int64(size)
			s := k.spool("a", p)
			wantProgress(s, store.Progress{})
			writeAt(s, p, 0, n/2)
			ok(checkpointer(s).Checkpoint(upTo(n/2, size, "state")), "Checkpoint")
			writeAt(s, p, n*3/4, n) // beyond the front, so it is lost
			ok(checkpointer(s).Keep(), "Keep")
			k.absent("a", p, "after Keep")

			s = k.spool("a", p)
			wantProgress(s, upTo(n/2, size, "state"))
			r := handle(s)
			readsAs(r, p.data[:n/2])
			r.Close()
			writeAt(s, p, n/2, n)
			p.Size = int64(n)
			ok(s.Commit(k.ctx, p.Info), "Commit")
			ok(s.Close(), "Close")
			k.present("a", p)
		}
	}
}

func lastCheckpoint(k *kit) {
	for i, n := range spoolSizes() {
		p := blob(uint64(i), n, originA+"/x")
		s := k.spool("a", p)
		writeAt(s, p, 0, n/2)
		ok(checkpointer(s).Keep(), "Keep without a checkpoint")
		s = k.spool("a", p)
		wantProgress(s, store.Progress{})
		writeAt(s, p, 0, n/4)
		ok(checkpointer(s).Checkpoint(upTo(n/4, n, "first")), "Checkpoint")
		writeAt(s, p, n/4, n/2)
		ok(checkpointer(s).Checkpoint(upTo(n/2, n, "second")), "Checkpoint")
		writeAt(s, p, n/2, n)
		ok(checkpointer(s).Keep(), "Keep")
		s = k.spool("a", p)
		wantProgress(s, upTo(n/2, n, "second"))
		// After Keep without another checkpoint, the old one counts.
		ok(checkpointer(s).Keep(), "Keep")
		s = k.spool("a", p)
		wantProgress(s, upTo(n/2, n, "second"))
		r := handle(s)
		readsAs(r, p.data[:n/2])
		r.Close()
		ok(s.Close(), "Close")
	}
}

func keptApart(k *kit) {
	for i, n := range spoolSizes() {
		p := blob(uint64(i), n, originA+"/x")
		s := k.spool("a", p)
		writeAt(s, p, 0, n/2)
		ok(checkpointer(s).Checkpoint(upTo(n/2, n, "state")), "Checkpoint")
		ok(checkpointer(s).Keep(), "Keep")
		for _, other := range []store.Spool{k.spool("b", p), k.spool("a", p.from(originB+"/x")), k.spool("a", blob(99, n, originA+"/x"))} {
			wantProgress(other, store.Progress{})
			ok(other.Close(), "Close of another spool")
		}
		s = k.spool("a", p)
		wantProgress(s, upTo(n/2, n, "state"))
		ok(s.Close(), "Close")
	}
}

func nothingKept(k *kit) {
	for i, n := range spoolSizes() {
		p, q := blob(uint64(i), n, originA+"/x"), blob(uint64(50+i), n, originA+"/x")
		s := k.spool("a", p)
		writeAt(s, p, 0, n)
		ok(checkpointer(s).Checkpoint(upTo(n/2, n, "state")), "Checkpoint")
		ok(s.Commit(k.ctx, p.Info), "Commit")
		ok(checkpointer(s).Keep(), "Keep after Commit")
		k.present("a", p)
		s = k.spool("a", p)
		wantProgress(s, store.Progress{})
		ok(s.Close(), "Close")
		k.present("a", p)

		s = k.spool("a", q)
		writeAt(s, q, 0, n)
		ok(checkpointer(s).Checkpoint(upTo(n/2, n, "state")), "Checkpoint")
		ok(s.Close(), "Close")
		s = k.spool("a", q)
		wantProgress(s, store.Progress{})
		ok(s.Close(), "Close")
	}
}

func checkpointRace(k *kit) {
	for i, n := range spoolSizes() {
		for round := range 4 {
			p := blob(uint64(100*i+round), n, originA+"/x")
			s := k.spool("a", p)
			c := checkpointer(s)
			writeAt(s, p, 0, n)
			k.together(4, func(i int) {
				switch i {
				case 0:
					ok(s.Commit(k.ctx, p.Info), "Commit")
				default:
					_ = c.Checkpoint(upTo(n/4*i, n, "state")) // may come too late
				}
			})
			ok(s.Close(), "Close")
			k.present("a", p)

			q := blob(uint64(100*i+round+50), n, originA+"/x")
			s = k.spool("a", q)
			c = checkpointer(s)
			writeAt(s, q, 0, n)
			k.together(4, func(i int) {
				switch i {
				case 0:
					ok(s.Close(), "Close")
				default:
					_ = c.Checkpoint(upTo(n/4*i, n, "state"))
				}
			})
			s = k.spool("a", q)
			wantProgress(s, store.Progress{})
			ok(s.Close(), "Close")
		}
	}
}
