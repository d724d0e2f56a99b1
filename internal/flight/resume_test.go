package flight

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

// leave puts on the shelf what a dead process left: it vouched for front bytes,
// and the file has some more.
func (r *rig) leave(front, size int64) {
	h := sha256.New()
	h.Write(r.up.data[:front])
	state, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		r.t.Fatal(err)
	}
	t := &tape{s: r.shelf, vouched: store.Progress{Front: front, Size: size, Hash: state}}
	t.data = append(t.data, r.up.data[:front]...)
	r.shelf.kept = t
}

func TestResumeFromACheckpoint(t *testing.T) {
	const size = 4 << 20
	story(t, func(t *testing.T) {
		r := newRig(t, size)
		r.leave(3<<20, size)
		r.want()
		r.wantStored(true)
		r.wantConnections(1)
		if got := r.up.asked[0]; got != (request{3 << 20, -1}) {
			t.Errorf("asked for %v", got)
		}
		if r.up.total != 1<<20 {
			t.Errorf("%d bytes came", r.up.total)
		}
	})
}

func TestNothingIsServedBeforeTheUpstreamAgrees(t *testing.T) {
	const size = 4 << 20
	for name, refusal := range map[string]error{
		"denied":    problem(upstream.Denied, 403),
		"not found": problem(upstream.NotFound, 404),
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T) {
				r := newRig(t, size)
				r.leave(3<<20, size)
				r.up.each = func(int, int64) fault { return fault{err: refusal} }
				h := r.join(false)
				defer h.Close()
				var w bytes.Buffer
				if n, err := h.Send(client(), &w, nil, 0, 1<<20, false); n != 0 || !errors.Is(err, refusal) {
					t.Errorf("sent %d, %v", n, err)
				}
				if _, err := h.Header(client()); !errors.Is(err, refusal) {
					t.Error(err)
				}
				// A cut reader of what is there does not get it afterwards either.
				if n, _ := h.Send(client(), &w, nil, 0, 1<<20, false); n != 0 {
					t.Errorf("sent %d after the refusal", n)
				}
				r.idle()
				if r.shelf.keeps != 1 {
					t.Error("the progress was not kept")
				}
			})
		})
	}
}

func TestCompleteProgressAsksOnlyWhetherItMay(t *testing.T) {
	const size = 4 << 20
	story(t, func(t *testing.T) {
		r := newRig(t, size)
		r.leave(size, size)
		r.want()
		r.wantStored(true)
		r.wantConnections(1)
		if r.up.asked[0] != (request{0, 1}) || r.up.stats != 0 {
			t.Errorf("%+v and %d HEADs, want the first byte: a HEAD may be refused where GET is served", r.up.asked, r.up.stats)
		}
	})
	story(t, func(t *testing.T) {
		r := newRig(t, size)
		r.leave(size, size)
		r.up.each = func(int, int64) fault { return fault{err: problem(upstream.Denied, 403)} }
		got, err := r.get()
		r.wantClass(err, upstream.Denied)
		if len(got) != 0 {
			t.Errorf("got %d bytes", len(got))
		}
		r.wantStored(false)
	})
}

func TestProgressThatCannotBeIsGivenUp(t *testing.T) {
	const size = 4 << 20
	for name, change := range map[string]func(p *store.Progress){
		"another size":         func(p *store.Progress) { p.Size = size + 1 },
		"beyond its own size":  func(p *store.Progress) { p.Size = p.Front - 1 },
		"a hash that is none":  func(p *store.Progress) { p.Hash = []byte("nonsense") },
		"no size, but that ok": func(p *store.Progress) { p.Size = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T) {
				r := newRig(t, size)
				r.leave(3<<20, size)
				change(&r.shelf.kept.vouched)
				r.want()
				r.wantStored(true)
				r.wantConnections(1)
			})
		})
	}
}

// Bytes that rotted on disk under a true sidecar: this flight fails, the next
// one fetches everything.
func TestRottenProgressDoesNotStay(t *testing.T) {
	const size = 4 << 20
	story(t, func(t *testing.T) {
		r := newRig(t, size)
		r.leave(3<<20, size)
		good := r.up.data
		other := bytes.Clone(good)
		other[5] ^= 1
		r.up.data = other
		r.leave(3<<20, size) // a hash state of other bytes
		r.up.data = good
		if got, err := r.get(); !errors.Is(err, ErrDigest) || len(got) > size-HoldBack {
			t.Errorf("got %d, %v", len(got), err)
		}
		r.wantStored(false)
		r.want()
		r.wantStored(true)
	})
}

func TestCheckpointsAndKeepAtClose(t *testing.T) {
	const size = 40 << 20
	story(t, func(t *testing.T) {
		r := newRig(t, size)
		r.up.each = paced
		r.g.early.take() // there are full checkpoints alone
		h := r.join(false)
		defer h.Close()
		if _, err := h.Header(client()); err != nil {
			t.Fatal(err)
		}
		far := make(chan error)
		go func() { // a segment beyond the front is vouched for, too
			_, err := r.cut(30<<20, 8<<20)
			far <- err
		}()
		time.Sleep(4 * time.Second)
		if err := r.g.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		<-far
		if err := h.Wait(client()); !errors.Is(err, ErrClosed) {
			t.Errorf("Wait: %v", err)
		}
		if _, err := r.g.Join(client(), r.request()); !errors.Is(err, ErrClosed) {
			t.Errorf("Join: %v", err)
		}
		kept := r.shelf.kept
		if kept == nil || kept.vouched.Front < 20<<20 || kept.vouched.Front > 28<<20 {
			t.Fatalf("kept %+v", kept)
		}
		if n := len(r.shelf.checkpoints); n < 3 || n > 5 {
			t.Errorf("%d checkpoints", n)
		}
		if !slices.ContainsFunc(r.shelf.checkpoints[:len(r.shelf.checkpoints)-1], func(p store.Progress) bool { return len(p.Spans) > 0 }) {
			t.Errorf("no checkpoint on the way vouches for what is beyond its front: %+v", r.shelf.checkpoints)
		}
		before := r.up.total
		r.g = r.group() // the next process
		r.want()
		r.wantStored(true)
		want := size - kept.vouched.Front
		for _, s := range kept.vouched.Spans {
			want -= s.End - s.Start
		}
		if came := r.up.total - before; came != want || len(kept.vouched.Spans) == 0 {
			t.Errorf("%d bytes came after a front of %d and %v", came, kept.vouched.Front, kept.vouched.Spans)
		}
	})
}

func TestCloseBeforeAnythingAndTwice(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 1)
		if err := r.g.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if _, err := r.g.Join(client(), r.request()); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
}

// What is verified when the group closes is committed, not fetched again.
func TestCloseLetsACommitEnd(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 1<<20)
		r.up.latency = time.Second
		hold := make(chan struct{})
		r.shelf.beforeCommit = func() { <-hold }
		job := r.join(true)
		defer job.Close()
		time.Sleep(2 * time.Second)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		closed := make(chan error)
		go func() { closed <- r.g.Close(context.Background()) }()
		<-ctx.Done()
		close(hold)
		if err := <-closed; err != nil {
			t.Error(err)
		}
		if err := job.Wait(client()); err != nil {
			t.Error(err)
		}
		r.wantStored(true)
	})
}

func TestCloseDoesNotWaitForEver(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 1<<20)
		hold := make(chan struct{})
		r.shelf.beforeCommit = func() { <-hold }
		job := r.join(true)
		defer job.Close()
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := r.g.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		close(hold) // its context has ended: the commit is given up
		if err := job.Wait(client()); !Broken(err) {
			t.Error(err)
		}
		r.wantStored(false)
	})
}
