package storetest

import (
	"bytes"
	"io"

	"github.com/pullthrough/pullthrough/store"
)

// spoolSizes returns a small and a large size, since a store may keep small content in
// another way.
func spoolSizes() []int { return []int{1000, 300 << 10} }

func spoolChecks() []Check {
	return []Check{
		{"spool/read while written", "Bytes that were written to a spool can be read at once, by handles with positions of their own.", law(spoolRead)},
		{"spool/out of order", "A spool may be written in any order; Commit makes it content.", law(spoolOutOfOrder)},
		{"spool/commit is the door", "Nothing of a spool is visible before Commit, and then only in its repository.", law(spoolVisibleAfterCommit)},
		{"spool/one", "Only one spool may be open at a time for each repository, origin and digest.", law(spoolOne)},
		{"spool/close gives up", "A spool that was closed without Commit leaves neither content nor anything for the next spool.", law(spoolClose)},
		{"spool/readers", "Handles stay readable after Commit and Close; Open works between Commit and Close.", law(spoolReaders)},
		{"spool/size", "Commit returns ErrSize if the bytes are not as many as Spool or Commit announced.", law(spoolSize)},
		{"spool/concurrent", "WriteAt, Open and reads may run concurrently.", law(spoolConcurrent)},
	}
}

func (k *kit) spool(repo string, p piece) store.Spool {
	s, err := need[store.Spooler](k).Spool(k.ctx, repo, p.Info)
	ok(err, "Spool in %s", repo)
	return s
}

func writeAt(s store.Spool, p piece, from, to int) {
	n, err := s.WriteAt(p.data[from:to], int64(from))
	ok(err, "WriteAt")
	if n != to-from {
		failf("WriteAt returned %d of %d without an error", n, to-from)
	}
}

func handle(s store.Spool) io.ReadSeekCloser {
	r, err := s.Open()
	ok(err, "Open of a spool")
	return r
}

func spoolRead(k *kit) {
	for i, n := range spoolSizes() {
		p := blob(uint64(i), n, originA+"/x")
		s := k.spool("a", p)
		early := handle(s)
		for offset := 0; offset < n; offset += n / 4 {
			writeAt(s, p, offset, offset+n/4)
			got := make([]byte, n/4)
			_, err := io.ReadFull(early, got)
			ok(err, "read of what was just written")
			if !bytes.Equal(got, p.data[offset:offset+n/4]) {
				failf("what was read is not what was written")
			}
			late := handle(s)
			readsAs(late, p.data[:offset+n/4])
			_, err = late.Seek(int64(offset), io.SeekStart)
			ok(err, "Seek")
			readsAs(late, p.data[offset:offset+n/4])
			ok(late.Close(), "Close of a handle")
		}
		ok(early.Close(), "Close of a handle")
		ok(s.Close(), "Close")
	}
}

func spoolOutOfOrder(k *kit) {
	for i, n := range spoolSizes() {
		for _, size := range []int64{int64(n), -1} {
			p := blob(uint64(i), n, originA+"/x")
			p.Size = size
			s := k.spool("a", p)
			writeAt(s, p, n/2, n)
			writeAt(s, p, 0, n/3)
			r := handle(s)
			got := make([]byte, n-n/2)
			_, err := r.Seek(int64(n/2), io.SeekStart)
			ok(err, "Seek")
			_, err = io.ReadFull(r, got)
			ok(err, "read beyond a hole")
			if !bytes.Equal(got, p.data[n/2:]) {
				failf("what was read beyond a hole is not what was written")
			}
			writeAt(s, p, n/3, n/2)
			p.Size = int64(n)
			ok(s.Commit(k.ctx, p.Info), "Commit")
			ok(s.Close(), "Close")
			ok(r.Close(), "Close of a handle")
			k.present("a", p)
		}
	}
}

func spoolVisibleAfterCommit(k *kit) {
	for i, n := range spoolSizes() {
		p := blob(uint64(i), n, originA+"/x")
		s := k.spool("a", p)
		writeAt(s, p, 0, n)
		k.absent("a", p, "before Commit")
		calls := 0
		is(k.s.Adopt(k.ctx, "b", p.Info, allow(nil, &calls)), store.ErrNotFound, "Adopt before Commit")
		ok(s.Commit(k.ctx, p.Info), "Commit")
		k.present("a", p)
		k.absent("b", p, "after Commit elsewhere")
		ok(s.Close(), "Close")
		k.present("a", p)
		ok(k.s.Adopt(k.ctx, "b", p.Info, allow(nil, &calls)), "Adopt after Commit")
		k.present("b", p)
	}
}

func spoolOne(k *kit) {
	for i, n := range spoolSizes() {
		p := blob(uint64(i), n, originA+"/x")
		s := k.spool("a", p)
		if second, err := need[store.Spooler](k).Spool(k.ctx, "a", p.Info); err == nil {
			second.Close()
			failf("a second spool of the same content was opened")
		}
		for _, other := range []store.Spool{k.spool("b", p), k.spool("a", p.from(originB+"/x")), k.spool("a", blob(99, n, originA+"/x"))} {
			ok(other.Close(), "Close of another spool")
		}
		writeAt(s, p, 0, n)
		readsAs(handle(s), p.data)
		ok(s.Close(), "Close")
		s = k.spool("a", p)
		ok(s.Close(), "Close")
	}
}

func spoolClose(k *kit) {
	for i, n := range spoolSizes() {
		p := blob(uint64(i), n, originA+"/x")
		s := k.spool("a", p)
		writeAt(s, p, 0, n)
		ok(s.Close(), "Close")
		k.absent("a", p, "after Close")
		if s.Commit(k.ctx, p.Info) == nil {
			failf("Commit after Close succeeded")
		}
		k.absent("a", p, "after Close and Commit")
		s = k.spool("a", p)
		if c, is := s.(store.Checkpointer); is && c.Progress().Front != 0 {
			failf("a spool that was closed was resumed at %d", c.Progress().Front)
		}
		r := handle(s)
		readsAs(r, nil)
		r.Close()
		ok(s.Close(), "Close")
	}
}

func spoolReaders(k *kit) {
	for i, n := range spoolSizes() {
		p := blob(uint64(i), n, originA+"/x")
		s := k.spool("a", p)
		writeAt(s, p, 0, n)
		r1, r2 := handle(s), handle(s)
		_, err := io.CopyN(io.Discard, r1, int64(n/2))
		ok(err, "read")
		ok(s.Commit(k.ctx, p.Info), "Commit")
		readsAs(r1, p.data[n/2:])
		r3 := handle(s)
		ok(s.Close(), "Close")
		readsAs(r2, p.data)
		readsAs(r3, p.data)
		for _, r := range []io.Closer{r1, r2, r3} {
			ok(r.Close(), "Close of a handle")
		}
		k.present("a", p)

		q := blob(uint64(100+i), n, originA+"/x")
		s = k.spool("a", q)
		writeAt(s, q, 0, n)
		r1 = handle(s)
		ok(s.Close(), "Close")
		readsAs(r1, q.data)
		ok(r1.Close(), "Close of a handle")
	}
}

func spoolSize(k *kit) {
	for i, n := range spoolSizes() {
		p := blob(uint64(i), n, originA+"/x")
		s := k.spool("a", p)
		writeAt(s, p, 0, n-1)
		is(s.Commit(k.ctx, p.Info), store.ErrSize, "Commit of %d bytes, announced were %d", n-1, n)
		k.absent("a", p, "after ErrSize")
		ok(s.Close(), "Close")

		q := p
		q.Size = -1
		s = k.spool("a", q)
		writeAt(s, q, 0, n-1)
		is(s.Commit(k.ctx, p.Info), store.ErrSize, "Commit of %d bytes as %d", n-1, n)
		k.absent("a", p, "after ErrSize")
		ok(s.Close(), "Close")
	}
}

func spoolConcurrent(k *kit) {
	for i, n := range spoolSizes() {
		p := blob(uint64(i), n, originA+"/x")
		s := k.spool("a", p)
		first := handle(s)
		const parts = 10
		k.together(parts, func(i int) {
			writeAt(s, p, n/parts*i, n/parts*(i+1))
			r := handle(s)
			defer r.Close()
			_, err := r.Seek(int64(n/parts*i), io.SeekStart)
			ok(err, "Seek")
			got := make([]byte, n/parts)
			_, err = io.ReadFull(r, got)
			ok(err, "read")
			if !bytes.Equal(got, p.data[n/parts*i:n/parts*(i+1)]) {
				failf("what was read is not what was written")
			}
		})
		readsAs(first, p.data)
		first.Close()
		ok(s.Commit(k.ctx, p.Info), "Commit")
		ok(s.Close(), "Close")
		k.present("a", p)
	}
}
