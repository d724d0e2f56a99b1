package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestMemIsBounded(t *testing.T) {
	m := &Mem{MaxBytes: 10 << 10}
	here, data := content1("here", 5000)
	if err := create(t, m, "a", here, data); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{6000, -1} {
		info, data := content1("too much", 6000)
		info.Size = size
		if err := create(t, m, "a", info, data); !errors.Is(err, ErrFull) {
			t.Errorf("announced %d: %v", size, err)
		}
		wantMissing(t, m, "a", info.Digest)
		s, err := m.Spool(t.Context(), "a", info)
		if err == nil {
			_, err = s.WriteAt(data, 0)
			s.Close()
		}
		if !errors.Is(err, ErrFull) {
			t.Errorf("spool, announced %d: %v", size, err)
		}
	}
	wantBlob(t, m, "a", here.Digest, data)
	if err := m.PutRecord(t.Context(), "jobs", "a", make([]byte, 6000)); !errors.Is(err, ErrFull) {
		t.Errorf("PutRecord: %v", err)
	}
	var full error
	for i := 0; i < 100 && full == nil; i++ {
		full = m.SetTag(t.Context(), "a", fmt.Sprint(i), Tag{Descriptor: here.Descriptor})
	}
	if !errors.Is(full, ErrFull) {
		t.Errorf("tags without end: %v", full)
	}
}

// Whatever happened, an empty Mem counts nothing.
func TestMemGivesBack(t *testing.T) {
	m := new(Mem)
	for i, n := range []int{0, 100, 300 << 10} {
		for _, size := range []int64{int64(n), -1} {
			info, data := content1(fmt.Sprint("x", i), n)
			info.Size = size
			for _, repo := range []string{"a", "b"} {
				if err := create(t, m, repo, info, data); err != nil {
					t.Fatal(err)
				}
			}
			w, err := m.Create(t.Context(), "c", info)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = w.Write(data)
			w.Close()
			for j := range 4 {
				s, err := m.Spool(t.Context(), "d", info)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = s.WriteAt(data[n/2:], int64(n/2))
				_, _ = s.WriteAt(data[:n/2], 0)
				switch j {
				case 0:
					_ = s.(Checkpointer).Checkpoint(Progress{Front: int64(n / 3), Size: size})
					_ = s.(Checkpointer).Keep()
				case 1:
					_ = s.(Checkpointer).Keep()
				case 2:
					info.Size = int64(n)
					if err := s.Commit(t.Context(), info); err != nil {
						t.Fatal(err)
					}
				}
				s.Close()
			}
			for _, repo := range []string{"a", "b", "c", "d"} {
				if err := m.Delete(t.Context(), repo, info.Digest); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if m.used != 0 || len(m.blobs) != 0 || len(m.repos) != 0 || len(m.spools) != 0 || len(m.kept) != 0 {
		t.Errorf("%d bytes, %d blobs, %d repositories, %d spools, %d kept", m.used, len(m.blobs), len(m.repos), len(m.spools), len(m.kept))
	}
}

func TestMemDropsKeptSpoolsFirst(t *testing.T) {
	m := &Mem{MaxBytes: 12 << 10}
	half, data := content1("half", 6000)
	s, err := m.Spool(t.Context(), "a", half)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = s.WriteAt(data, 0)
	if err := s.(Checkpointer).Checkpoint(Progress{Front: 6000, Size: 6000}); err != nil {
		t.Fatal(err)
	}
	if err := s.(Checkpointer).Keep(); err != nil {
		t.Fatal(err)
	}
	info, data := content1("whole", 8000)
	if err := create(t, m, "a", info, data); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, m, "a", info.Digest, data)
}

// writes counts what an io.Copy hands over.
type writes struct {
	bytes.Buffer
	n int
}

func (w *writes) Write(p []byte) (int, error) { w.n++; return w.Buffer.Write(p) }

func (w *writes) ReadFrom(io.Reader) (int64, error) { panic("the reader writes") }

func TestMemHandsOutChunks(t *testing.T) {
	m := new(Mem)
	info, data := content1("big", 3*chunkSize-10)
	if err := create(t, m, "a", info, data); err != nil {
		t.Fatal(err)
	}
	_, r, err := m.Open(t.Context(), "a", info.Digest)
	if err != nil {
		t.Fatal(err)
	}
	var w writes
	if n, err := io.Copy(&w, r); n != info.Size || err != nil || w.n != 3 || !bytes.Equal(w.Bytes(), data) {
		t.Errorf("%d bytes in %d writes, %v", n, w.n, err)
	}
}
