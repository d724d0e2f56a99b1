package index

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"

	"github.com/pullthrough/pullthrough/internal/durable"
)

// errLoop reports a page that lies below itself. bbolt follows pages by recursion, so it
// would use up the stack, which ends the process and cannot be recovered from.
var errLoop = fmt.Errorf("%w: a page lies below itself", ErrDamaged)

// errFree reports a page that is in use and listed as free. bbolt would write over it.
var errFree = fmt.Errorf("%w: a page in use is listed as free", ErrDamaged)

// The parts of bbolt's file that checkLoops reads; numbers are in the order of the machine.
const (
	pageHead   = 16 // number 8, kind 2, count 2, further pages 4
	elemSize   = 16 // of a branch: position 4, length 4, page 8; of a leaf: kind 4, position 4, length 4, value 4
	metaSum    = 56 // of the first page: where its checksum is, after the head
	branchKind = 1
	leafKind   = 2
	maxLevels  = 64
	maxFurther = 256
)

// checkShape looks for damage that bbolt would make worse: branch pages that lie below
// themselves, and pages in use that are listed as free. All leaves of a tree are at one
// level, so it reads no leaf, and takes any other damage for none: bbolt sees to that.
func checkShape(path string) error {
	f, _, err := durable.OpenRead(path)
	if err != nil {
		return err
	}
	defer f.Close()
	s := newShape(f)
	if err := s.walkAll(func(string) bool { return true }); err != nil {
		return err
	}
	free := false
	s.eachFree(func(id uint64) { free = free || s.leaves[id] || s.branches[id] })
	if free {
		return errFree
	}
	return nil
}

// checkLoops looks for branch pages of one bucket that lie below themselves.
func checkLoops(path, bucket string) error {
	f, _, err := durable.OpenRead(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return newShape(f).walkAll(func(name string) bool { return name == "" || name == bucket })
}

type shape struct {
	f        io.ReaderAt
	pageSize int64
	table    uint64          // the first page of the table of buckets
	free     uint64          // the page that lists those that are free
	branches map[uint64]bool // that were seen
	leaves   map[uint64]bool // where leaves must be
}

// newShape reads the newest valid meta page.
func newShape(f io.ReaderAt) *shape {
	s := &shape{f: f, branches: make(map[uint64]bool), leaves: make(map[uint64]bool)}
	newest := uint64(0)
	for n, at := 0, int64(0); n < 2; n, at = n+1, int64(os.Getpagesize()) {
		b := make([]byte, pageHead+metaSum+8)
		if _, err := s.f.ReadAt(b, at); err != nil {
			continue
		}
		m := b[pageHead:]
		h := fnv.New64a()
		_, _ = h.Write(m[:metaSum])
		if h.Sum64() == num(m, metaSum) && num(m, 48) >= newest {
			s.table, s.free, newest, s.pageSize = num(m, 16), num(m, 32), num(m, 48), int64(small(m, 8))
		}
	}
	return s
}

// walkAll goes through the table of buckets, whose name is empty, and those buckets that
// are wanted.
func (s *shape) walkAll(wanted func(name string) bool) error {
	if s.pageSize < pageHead+elemSize || s.pageSize > 1<<16 {
		return nil
	}
	if err := s.walk(s.table); err != nil {
		return err
	}
	page, kind, count := s.read(s.table)
	for i := 0; kind == leafKind && i < count && pageHead+elemSize*(i+1) <= len(page); i++ {
		e := page[pageHead+elemSize*i:]
		pos, length := uint64(small(e, 4)), uint64(small(e, 8))
		if pos+length+8 > uint64(len(e)) || !wanted(string(e[pos:pos+length])) {
			continue
		}
		if root := num(e, int(pos+length)); root != 0 { // else it lies in the table
			if err := s.walk(root); err != nil {
				return err
			}
		}
	}
	for id := range s.leaves {
		if s.branches[id] {
			return errLoop
		}
	}
	return nil
}

// eachFree calls do for each page that is listed as free, and those of the list itself.
func (s *shape) eachFree(do func(id uint64)) {
	if s.pageSize == 0 || s.free > 1<<40 {
		return
	}
	r := io.NewSectionReader(s.f, int64(s.free)*s.pageSize, 1<<40)
	head := make([]byte, pageHead+8)
	if _, err := io.ReadFull(r, head); err != nil {
		return
	}
	for i := range min(uint64(small(head, 12))+1, 1<<20) {
		do(num(head, 0) + i) // these bbolt frees with the next transaction
	}
	count, at := uint64(binary.NativeEndian.Uint16(head[10:])), int64(pageHead)
	if count == 0xffff {
		count, at = num(head, pageHead), pageHead+8
	}
	if _, err := r.Seek(at, io.SeekStart); err != nil {
		return
	}
	ids := bufio.NewReader(r)
	for range count {
		var b [8]byte
		if _, err := io.ReadFull(ids, b[:]); err != nil {
			return
		}
		do(num(b[:], 0))
	}
}

func num(b []byte, at int) uint64   { return binary.NativeEndian.Uint64(b[at:]) }
func small(b []byte, at int) uint32 { return binary.NativeEndian.Uint32(b[at:]) }

// read returns a page with those that belong to it, or nothing if it cannot be one.
func (s *shape) read(id uint64) (page []byte, kind, count int) {
	if id == 0 || id > 1<<40 {
		return nil, 0, 0
	}
	page = make([]byte, s.pageSize)
	if _, err := s.f.ReadAt(page, int64(id)*s.pageSize); err != nil {
		return nil, 0, 0
	}
	kind, count = int(binary.NativeEndian.Uint16(page[8:])), int(binary.NativeEndian.Uint16(page[10:]))
	if more := small(page, 12); kind == branchKind && more > 0 && more < maxFurther {
		page = make([]byte, s.pageSize*int64(1+more))
		if _, err := s.f.ReadAt(page, int64(id)*s.pageSize); err != nil && !errors.Is(err, io.EOF) {
			return nil, 0, 0
		}
	}
	return page, kind, count
}

// walk goes through a tree, level by level.
func (s *shape) walk(root uint64) error {
	level := []uint64{root}
	for range maxLevels {
		if !s.isBranches(level) {
			for _, id := range level {
				s.leaves[id] = true
			}
			return nil
		}
		var below []uint64
		for _, id := range level {
			page, kind, count := s.read(id)
			if kind != branchKind {
				continue
			}
			if s.branches[id] {
				return errLoop
			}
			s.branches[id] = true
			for i := 0; i < count && pageHead+elemSize*(i+1) <= len(page); i++ {
				below = append(below, num(page, pageHead+elemSize*i+8))
			}
		}
		level = below
	}
	return errLoop
}

// isBranches reports whether a level has branches. One page may be damaged.
func (s *shape) isBranches(level []uint64) bool {
	for _, id := range level[:min(3, len(level))] {
		if _, kind, _ := s.read(id); kind == branchKind {
			return true
		}
	}
	return false
}
