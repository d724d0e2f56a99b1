package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"runtime"
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

// A write far from the others holds its piece and nothing for what lies between.
func TestFarRangeOfAHugeBlobInMem(t *testing.T) {
	const limit = 1 << 20
	for _, m := range []*Mem{{MaxBytes: limit}, {MaxBytes: -1}} {
		info, data := content1("far", 100)
		info.Size = -1
		if m.MaxBytes < 0 {
			info.Size = 1 << 50 // too large to be announced to the other
		}
		before := heapInUse()
		s, err := m.Spool(t.Context(), "a", info)
		if err != nil {
			t.Fatal(err)
		}
		written := 0
		for off := int64(1) << 41; off < 1<<50 && err == nil; off *= 2 {
			if _, err = s.WriteAt(data, off); err == nil {
				written++
			}
			if held := heapInUse() - before; held > 8<<20 {
				t.Fatalf("%d small writes up to %d hold %d bytes", written, off, held)
			}
		}
		if m.MaxBytes < 0 && (err != nil || written != 9) {
			t.Errorf("without a limit: %d writes, %v", written, err)
		}
		if m.MaxBytes > 0 && (!errors.Is(err, ErrFull) || written != 3 || m.used > limit) {
			t.Errorf("with a limit: %d writes, %d bytes used, %v", written, m.used, err)
		}
		r, err := s.Open()
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 200)
		if _, err := r.Seek(1<<41-100, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, append(make([]byte, 100), data...)) {
			t.Errorf("read in the middle: %q, %v", got, err)
		}
		s.Close()
		if m.used != 0 {
			t.Errorf("%d bytes are still counted", m.used)
		}
	}
}

func heapInUse() int64 {
	var st runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&st)
	return int64(st.HeapAlloc)
}

func TestSizesThatOverflow(t *testing.T) {
	m := &Mem{MaxBytes: 1 << 20}
	half, data := content1("half", 6000)
	s, err := m.Spool(t.Context(), "a", half)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = s.WriteAt(data, 0)
	if err := s.(Checkpointer).Checkpoint(Progress{Front: 3000, Size: 6000}); err != nil {
		t.Fatal(err)
	}
	if err := s.(Checkpointer).Keep(); err != nil {
		t.Fatal(err)
	}
	used := m.used
	for _, size := range []int64{2 << 20, 1 << 62, math.MaxInt64 - memEntry, math.MaxInt64 - 1, math.MaxInt64} {
		info, _ := content1("x", 100)
		info.Size = size
		if _, err := m.Spool(t.Context(), "a", info); !errors.Is(err, ErrFull) {
			t.Errorf("Spool of %d: %v", size, err)
		}
		if _, err := m.Create(t.Context(), "a", info); !errors.Is(err, ErrFull) {
			t.Errorf("Create of %d: %v", size, err)
		}
	}
	if m.used != used || len(m.kept) != 1 {
		t.Errorf("%d bytes used, were %d; %d kept: what has no room at all costs nothing", m.used, used, len(m.kept))
	}
}

// Short annotations take more memory than the manifest that they are in.
func TestMemPaysForAnnotations(t *testing.T) {
	info, data := content1("manifest", 2000)
	info.MediaType = "application/vnd.oci.image.manifest.v1+json"
	info.Annotations = make(map[string]string)
	for i := range 1000 {
		info.Annotations[fmt.Sprint(i)] = "x"
	}
	m := &Mem{MaxBytes: 50 << 10}
	if err := create(t, m, "a", info, data); !errors.Is(err, ErrFull) {
		t.Errorf("Commit: %v", err)
	}
	if err := m.SetTag(t.Context(), "a", "v1", Tag{Descriptor: info.Descriptor}); !errors.Is(err, ErrFull) {
		t.Errorf("SetTag: %v", err)
	}
	m.MaxBytes = 500 << 10
	for range 5 { // again and with fewer annotations: what was counted is given back
		if err := create(t, m, "a", info, data); err != nil {
			t.Fatal(err)
		}
		if err := m.SetTag(t.Context(), "a", "v1", Tag{Descriptor: info.Descriptor, Source: info.Source}); err != nil {
			t.Fatal(err)
		}
		maps.DeleteFunc(info.Annotations, func(key, _ string) bool { return len(key)%2 == 0 })
		info.Source += "x"
	}
	if err := errors.Join(m.Delete(t.Context(), "a", info.Digest), m.DeleteTag(t.Context(), "a", "v1")); err != nil {
		t.Fatal(err)
	}
	if m.used != 0 {
		t.Errorf("%d bytes are still counted", m.used)
	}
}
