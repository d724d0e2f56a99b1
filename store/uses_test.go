package store

import (
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/durable"
)

// usable is a store that has what uses need.
type usable interface {
	Store
	Batcher
	Deleter
	Records
	ManifestLister
	UseRecorder
}

// manifest1 links a manifest in the repository a.
func manifest1(t testing.TB, s Store, text string) digest.Digest {
	t.Helper()
	info, data := content1(text, 300)
	info.MediaType = "application/vnd.oci.image.manifest.v1+json"
	if err := create(t, s, "a", info, data); err != nil {
		t.Fatal(err)
	}
	return info.Digest
}

// used returns the use of a manifest in the repository a: its first and its last one, in
// hours after the start of a bubble, in how many hours, and the pause.
func used(t testing.TB, s ManifestLister, d digest.Digest) string {
	t.Helper()
	start := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	for info, err := range s.Manifests(t.Context(), "a") {
		if err != nil {
			t.Fatal(err)
		}
		if info.Digest == d {
			return fmt.Sprintf("%.3g %v %d %v", info.Use.First.Sub(start).Hours(), info.Use.Last.Sub(start).Hours(), info.Use.Hours, info.Use.Pause.Hours())
		}
	}
	return "none"
}

func wantUse(t testing.TB, s ManifestLister, d digest.Digest, want string) {
	t.Helper()
	if got := used(t, s, d); got != want {
		t.Errorf("the use is %q, want %q", got, want)
	}
}

func TestUsesCountHours(t *testing.T) {
	path := t.TempDir()
	for _, name := range []string{"Mem", "Dir"} {
		synctest.Test(t, func(t *testing.T) {
			s := usable(new(Mem))
			if name == "Dir" {
				s = newDir(t, path)
			}
			time.Sleep(90 * time.Minute)
			m, other := manifest1(t, s, "manifest"), manifest1(t, s, "other")
			wantUse(t, s, m, "1.5 1 1 0")
			s.RecordUse("a", m)
			wantUse(t, s, m, "1.5 1 1 0")
			time.Sleep(40 * time.Minute) // 2:10
			for range 10 {
				s.RecordUse("a", m)
				wantUse(t, s, m, "1.5 2 2 1")
			}
			time.Sleep(10 * time.Hour)
			wantUse(t, s, m, "1.5 2 2 1")
			manifest1(t, s, "manifest") // linked again, which is no use
			wantUse(t, s, m, "1.5 2 2 1")
			s.RecordUse("a", m)
			wantUse(t, s, m, "1.5 12 3 6")
			wantUse(t, s, other, "1.5 1 1 0")
			if err := s.Delete(t.Context(), "a", m); err != nil {
				t.Fatal(err)
			}
			s.RecordUse("a", m)
			wantUse(t, s, m, "none")
			time.Sleep(time.Hour)
			manifest1(t, s, "manifest")
			wantUse(t, s, m, "13.2 13 1 0")
			s.RecordUse("a", other)
			if d, ok := s.(*Dir); ok {
				if err := d.Close(); err != nil {
					t.Error(err)
				}
				s = newDir(t, path)
				defer s.(*Dir).Close()
				wantUse(t, s, m, "13.2 13 1 0")
				wantUse(t, s, other, "1.5 13 2 12")
			}
		})
	}
}

// commitsOf counts the transactions of a Dir. fail, if not nil, lets them fail.
func commitsOf(d *Dir, fail func() error) *atomic.Int64 {
	n := new(atomic.Int64)
	d.disk.Step = func(op durable.Op, _, _ string) error {
		if op != durable.OpCommit {
			return nil
		}
		n.Add(1)
		if fail == nil {
			return nil
		}
		return fail()
	}
	return n
}

func TestUsesAreWrittenAlong(t *testing.T) {
	path := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d := newDir(t, path)
		m := manifest1(t, d, "manifest")
		answer := Tag{Descriptor: Info{}.Descriptor, Source: "s", Asked: time.Now()}
		answer.Digest = m
		if err := d.SetTag(t.Context(), "a", "v1", answer); err != nil {
			t.Fatal(err)
		}
		time.Sleep(59 * time.Minute)
		n := commitsOf(d, nil)
		time.Sleep(30 * time.Second)
		for i := range 1000 {
			d.RecordUse("a", m)
			d.RecordUse("a", digest.FromString(fmt.Sprint(i)))
		}
		time.Sleep(31 * time.Second) // the hour has ended, and so has what is done each hour
		synctest.Wait()
		n.Store(0)
		d.RecordUse("a", m)
		wantUse(t, d, m, "0 1 2 1")
		stale := answer
		stale.Asked = answer.Asked.Add(-time.Second)
		if err := errors.Join(d.SetTag(t.Context(), "a", "v1", answer), d.DeleteRecord(t.Context(), "jobs", "none"), d.Apply(t.Context(), new(Batch))); err != nil {
			t.Fatal(err)
		}
		if err := d.SetTag(t.Context(), "a", "v1", stale); !errors.Is(err, ErrStale) {
			t.Fatal(err)
		}
		if n.Load() != 0 {
			t.Errorf("uses were written by themselves, in %d transactions", n.Load())
		}
		if err := d.PutRecord(t.Context(), "jobs", "a", nil); err != nil {
			t.Fatal(err)
		}
		if n.Load() != 1 {
			t.Errorf("a record was written in %d transactions", n.Load())
		}
		wantUse(t, d, m, "0 1 2 1")
		d.crash()
		d = newDir(t, path)
		defer d.Close()
		wantUse(t, d, m, "0 1 2 1")
	})
}

func TestUsesAreWrittenEachHour(t *testing.T) {
	path := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d := newDir(t, path)
		m := manifest1(t, d, "manifest")
		n := commitsOf(d, nil)
		time.Sleep(61 * time.Minute)
		d.RecordUse("a", m)
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		if n.Load() != 0 {
			t.Errorf("%d transactions within the hour", n.Load())
		}
		for range 5 {
			time.Sleep(time.Hour)
			synctest.Wait()
			if n.Load() != 1 {
				t.Errorf("%d transactions, want the one that writes the use", n.Load())
			}
		}
		d.crash()
		d = newDir(t, path)
		defer d.Close()
		wantUse(t, d, m, "0 1 2 1")
	})
}

// A use shows before it is on disk, and is not lost by a transaction that fails.
func TestUsesOutliveATransactionThatFails(t *testing.T) {
	path := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d := newDir(t, path)
		m := manifest1(t, d, "manifest")
		time.Sleep(time.Hour + time.Minute)
		gate, full := make(chan struct{}), true
		commitsOf(d, func() error {
			<-gate
			if full {
				return &fs.PathError{Op: "write", Err: syscall.ENOSPC}
			}
			return nil
		})
		d.RecordUse("a", m)
		done := make(chan error, 1)
		go func() { done <- d.PutRecord(t.Context(), "jobs", "a", nil) }()
		synctest.Wait()
		wantUse(t, d, m, "0 1 2 1") // while it is written
		close(gate)
		if err := <-done; !errors.Is(err, ErrFull) {
			t.Errorf("PutRecord: %v", err)
		}
		wantUse(t, d, m, "0 1 2 1")
		full = false
		if err := d.PutRecord(t.Context(), "jobs", "a", nil); err != nil {
			t.Error(err)
		}
		d.crash()
		d = newDir(t, path)
		defer d.Close()
		wantUse(t, d, m, "0 1 2 1")
	})
}

// TestNotedUsesAreBounded: RecordUse never waits for the disk, and a disk that takes
// nothing lets nothing pile up.
func TestNotedUsesAreBounded(t *testing.T) {
	path := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d := newDir(t, path)
		m := manifest1(t, d, "manifest")
		time.Sleep(time.Hour + time.Minute)
		gate, full := make(chan struct{}), true
		n := commitsOf(d, func() error {
			<-gate
			if full {
				return &fs.PathError{Op: "write", Err: syscall.ENOSPC}
			}
			return nil
		})
		d.RecordUse("a", m) // the only one of them that there is something to write for
		many := func(what string) {
			for i := range 2*maxUses + 10 {
				d.RecordUse("a", digest.FromString(fmt.Sprint(what, i)))
				if i%100 == 0 {
					synctest.Wait()
				}
			}
			synctest.Wait()
			d.uses.mu.Lock()
			defer d.uses.mu.Unlock()
			if noted, writing := len(d.uses.noted), len(d.uses.writing); noted > maxUses || writing > maxUses {
				t.Errorf("%s: %d uses are noted, %d are being written", what, noted, writing)
			}
		}
		many("while they are written")
		if n.Load() != 1 {
			t.Errorf("%d transactions", n.Load())
		}
		close(gate)
		synctest.Wait()
		d.flushUses() // makes room for m
		n.Store(0)
		d.RecordUse("a", m)
		many("on a full disk")
		if n.Load() > 3 {
			t.Errorf("%d transactions on a full disk", n.Load())
		}
		full = false
		if err := d.PutRecord(t.Context(), "jobs", "a", nil); err != nil {
			t.Error(err)
		}
		d.uses.mu.Lock()
		if len(d.uses.noted)+len(d.uses.writing) != 0 {
			t.Error("uses that are written are still noted")
		}
		d.uses.mu.Unlock()
		d.RecordUse("a", m)
		wantUse(t, d, m, "0 1 2 1")
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
}
