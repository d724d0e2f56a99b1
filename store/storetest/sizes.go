package storetest

import (
	"io"
	"math"
	"runtime"

	"github.com/pullthrough/pullthrough/store"
)

func sizeChecks() []Check {
	return []Check{
		{"sizes/far", "A write far beyond the start of a spool takes no memory for the bytes before it, or is refused.", law(far)},
		{"sizes/overflow of content", "Content that is announced with the largest possible size is refused or harmless.", law(contentOverflow)},
		{"sizes/overflow of a spool", "Sizes, offsets and checkpoints of a spool that are negative or overflow are refused or harmless.", law(spoolOverflow)},
	}
}

// enough is more memory than a store may need for one small write.
const enough = 64 << 20

// heap returns how much memory is in use.
func heap() int64 {
	var st runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&st)
	return int64(st.HeapAlloc)
}

func far(k *kit) {
	for i, size := range []int64{-1, 1 << 50} {
		const off = 1 << 41
		p := blob(uint64(i), 100, originA+"/x")
		p.Size = size
		before := heap()
		s, err := need[store.Spooler](k).Spool(k.ctx, "a", p.Info)
		if err != nil {
			is(err, store.ErrFull, "Spool of %d bytes", size)
			continue
		}
		if _, err := s.WriteAt(p.data, off); err == nil {
			farReads(s, p, off)
		}
		held := heap() - before
		for range 3 { // other tests of the process may run at the same time
			held = min(held, heap()-before)
		}
		ok(s.Close(), "Close")
		if held > enough {
			failf("%d bytes written at %d hold %d bytes of memory", len(p.data), int64(off), held)
		}
	}
}

func farReads(s store.Spool, p piece, off int64) {
	r := handle(s)
	defer r.Close()
	_, err := r.Seek(off, io.SeekStart)
	ok(err, "Seek")
	readsAs(r, p.data)
}

func contentOverflow(k *kit) {
	for i, size := range []int64{math.MaxInt64, math.MaxInt64 - 1000} {
		p := blob(uint64(i), 2000, originA+"/x")
		right := p
		p.Size = size
		w, err := k.s.Create(k.ctx, "a", p.Info)
		if err != nil {
			is(err, store.ErrFull, "Create of %d bytes", size)
		} else {
			_, err = w.Write(p.data)
			ok(err, "Write")
			is(w.Commit(k.ctx), store.ErrSize, "Commit of %d bytes, announced were %d", len(p.data), size)
			ok(w.Close(), "Close")
		}
		k.absent("a", p, "after a size that overflows")
		k.put("a", right)
		k.present("a", right)
	}
}

func spoolOverflow(k *kit) {
	for i, size := range []int64{-1, math.MaxInt64, math.MaxInt64 - 1000} {
		p := blob(uint64(i), 2000, originA+"/x")
		right := p
		p.Size = size
		s, err := need[store.Spooler](k).Spool(k.ctx, "a", p.Info)
		if err != nil {
			is(err, store.ErrFull, "Spool of %d bytes", size)
		} else {
			overflowing(k, s, p)
		}
		k.absent("a", p, "after sizes that overflow")
		s = k.spool("a", right)
		writeAt(s, right, 0, len(right.data))
		ok(s.Commit(k.ctx, right.Info), "Commit")
		ok(s.Close(), "Close")
		k.present("a", right)
	}
}

// overflowing calls a spool with offsets and sizes that overflow, and closes it.
func overflowing(k *kit, s store.Spool, p piece) {
	writeAt(s, p, 0, len(p.data))
	for _, off := range []int64{-1, math.MinInt64, math.MaxInt64, math.MaxInt64 - 10} {
		if n, err := s.WriteAt(p.data, off); err == nil || n != 0 {
			failf("WriteAt of %d bytes at %d: %d, %v", len(p.data), off, n, err)
		}
	}
	if c, able := s.(store.Checkpointer); able {
		for _, front := range []int64{-1, math.MinInt64, math.MaxInt64} {
			if c.Checkpoint(store.Progress{Front: front, Size: p.Size}) == nil {
				failf("a checkpoint at %d succeeded, %d bytes are written", front, len(p.data))
			}
		}
	}
	got := p.Info
	if got.Size < 0 {
		got.Size = math.MaxInt64
	}
	is(s.Commit(k.ctx, got), store.ErrSize, "Commit of %d bytes as %d", len(p.data), got.Size)
	ok(s.Close(), "Close")
}
