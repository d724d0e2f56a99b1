package flight

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pullthrough/pullthrough/store"
)

// bowl is a spool that counts how often it is closed, and complains if it is
// opened after that.
type bowl struct {
	store.Spool
	t       *testing.T
	content []byte
	openErr error
	closed  atomic.Int32
	files   atomic.Int32 // that are open
}

func (b *bowl) Close() error {
	b.closed.Add(1)
	return nil
}

func (b *bowl) Open() (io.ReadSeekCloser, error) {
	if b.closed.Load() > 0 {
		b.t.Error("opened after it was closed")
	}
	if b.openErr != nil {
		return nil, b.openErr
	}
	b.files.Add(1)
	return spoon{bytes.NewReader(b.content), &b.files}, nil
}

type spoon struct {
	*bytes.Reader
	files *atomic.Int32
}

func (s spoon) Close() error {
	s.files.Add(-1)
	return nil
}

// life is a spoolLife over a bowl, which has been forgotten so many times.
type life struct {
	*spoolLife
	bowl      *bowl
	t         *testing.T
	forgotten atomic.Int32
}

func newLife(t *testing.T) *life {
	l := &life{t: t, bowl: &bowl{t: t, content: []byte("0123456789")}}
	l.spoolLife = newSpoolLife(func() {
		select {
		case <-l.freed:
			t.Error("another flight could begin before this one was forgotten")
		default:
		}
		l.forgotten.Add(1)
	})
	return l
}

// want checks whether the spool is closed and another flight may begin.
func (l *life) want(what string, closed, freed bool) {
	l.t.Helper()
	is := false
	select {
	case <-l.freed:
		is = true
	default:
	}
	n := 0
	if freed {
		n = 1
	}
	if got := int(l.forgotten.Load()); is != freed || got != n {
		l.t.Errorf("%s: freed %v and forgotten %d times, want %v", what, is, got, freed)
	}
	if got := l.bowl.closed.Load(); (got == 1) != closed || got > 1 {
		l.t.Errorf("%s: closed %d times, want %v", what, got, closed)
	}
}

func TestLastReferenceClosesTheSpool(t *testing.T) {
	l := newLife(t)
	early := newSpoolReader(l.spoolLife)
	if err := early.open(); !errors.Is(err, errBroken) {
		t.Errorf("there is no spool yet: %v", err)
	}
	l.set(l.bowl)
	reader, idle := newSpoolReader(l.spoolLife), newSpoolReader(l.spoolLife)
	if err := reader.open(); err != nil {
		t.Fatal(err)
	}
	early.close()
	early.close() // it counts once
	l.release()   // the download's
	l.want("with a reader that may still open it", false, false)
	idle.close()
	l.want("with a reader that has its file", true, true)
	var got bytes.Buffer
	if n, err := reader.copy(&got, 2, 3); n != 3 || err != nil || got.String() != "234" {
		t.Errorf("its file still gives %q, %v", got.String(), err)
	}
	if err := idle.open(); !errors.Is(err, errBroken) {
		t.Errorf("opened after the end: %v", err)
	}
	reader.close()
	l.want("at the end", true, true)
	if n := l.bowl.files.Load(); n != 0 {
		t.Errorf("%d files are open", n)
	}
}

func TestReaderThatCannotOpenKeepsItsReference(t *testing.T) {
	l := newLife(t)
	l.set(l.bowl)
	r := newSpoolReader(l.spoolLife)
	l.bowl.openErr = errors.New("no more files")
	if err := r.open(); !errors.Is(err, l.bowl.openErr) {
		t.Error(err)
	}
	l.release()
	l.want("it may try again", false, false)
	l.bowl.openErr = nil
	if err := r.open(); err != nil {
		t.Error(err)
	}
	l.want("it has its file", true, true)
	r.close()
}

func TestWithdrawnSpoolIsTheDownloads(t *testing.T) {
	l := newLife(t)
	l.set(l.bowl)
	reader, idle := newSpoolReader(l.spoolLife), newSpoolReader(l.spoolLife)
	if err := reader.open(); err != nil {
		t.Fatal(err)
	}
	if spool := l.withdraw(); spool != l.bowl {
		t.Errorf("withdrew %v", spool)
	}
	if err := idle.open(); !errors.Is(err, errBroken) {
		t.Errorf("opened after it was withdrawn: %v", err)
	}
	idle.close()
	l.release()
	l.want("references count no more", false, false)
	l.free()
	reader.close()
	l.want("the download says when", false, true)
}

func TestWithdrawBeforeThereIsASpool(t *testing.T) {
	l := newLife(t)
	if spool := l.withdraw(); spool != nil {
		t.Errorf("withdrew %v", spool)
	}
	l.free()
	l.want("never made", false, true)
}

// Readers open, read and leave while the download ends; the spool is closed once,
// and never under a reader that opens it.
func TestSpoolWithManyReaders(t *testing.T) {
	for range 200 {
		l := newLife(t)
		l.set(l.bowl)
		var wg sync.WaitGroup
		for i := range 8 {
			r := newSpoolReader(l.spoolLife)
			wg.Go(func() {
				defer r.close()
				if i%4 == 3 {
					return
				}
				if _, err := r.copy(io.Discard, int64(i), 2); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Go(l.release)
		wg.Wait()
		l.want("all have left", true, true)
	}
}

// A reader whose writer took less than was read does not go on at a wrong byte.
func TestSpoolReaderSeeksAfterAFailure(t *testing.T) {
	l := newLife(t)
	l.set(l.bowl)
	r := newSpoolReader(l.spoolLife)
	defer l.release()
	defer r.close()
	if _, err := r.copy(&short{left: 2}, 0, 6); !errors.Is(err, errHangUp) {
		t.Error(err)
	}
	var got bytes.Buffer
	for _, off := range []int64{2, 5, 1} {
		if _, err := r.copy(&got, off, 3); err != nil {
			t.Error(err)
		}
	}
	if got.String() != "234567123" {
		t.Errorf("got %q", got.String())
	}
	if _, err := r.copy(io.Discard, 8, 3); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("beyond the end: %v", err)
	}
}
