package store

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
)

// diskPage is the size of the pages of a database that tests damage.
var diskPage = os.Getpagesize()

// The kinds of pages, as bbolt marks them.
const (
	branchPage   = 1
	leafPage     = 2
	metaPage     = 4
	freelistPage = 16
)

// pageOf reads the head of a page.
func pageOf(db []byte, n int) (kind, count, more int) {
	h := db[n*diskPage:]
	return int(binary.NativeEndian.Uint16(h[8:])), int(binary.NativeEndian.Uint16(h[10:])), int(binary.NativeEndian.Uint32(h[12:]))
}

// tree returns the pages of a tree of entries.
func tree(db []byte, n int) (pages []int) {
	kind, count, more := pageOf(db, n)
	for i := range more + 1 {
		pages = append(pages, n+i)
	}
	for i := range count {
		if kind == branchPage {
			pages = append(pages, tree(db, int(binary.NativeEndian.Uint64(db[n*diskPage+16+16*i+8:])))...)
		}
	}
	return pages
}

// rootOf returns the page of the table of buckets, and the first page of one bucket, or 0
// if it lies in the table.
func rootOf(db []byte, bucket string) (table, root int) {
	meta := 0
	txid := func(n int) uint64 { return binary.NativeEndian.Uint64(db[n*diskPage+16+48:]) }
	if txid(1) > txid(0) {
		meta = 1
	}
	table = int(binary.NativeEndian.Uint64(db[meta*diskPage+16+16:]))
	_, count, _ := pageOf(db, table)
	for i := range count {
		e := db[table*diskPage+16+16*i:]
		pos, ksize := int(binary.NativeEndian.Uint32(e[4:])), int(binary.NativeEndian.Uint32(e[8:]))
		if string(e[pos:pos+ksize]) == bucket {
			root = int(binary.NativeEndian.Uint64(e[pos+ksize:]))
		}
	}
	return table, root
}

// damage is one way to damage a database.
type damage struct {
	name string
	do   func(db []byte) []byte
	// pages are those that it changes; cut is the number of pages that are left, if not 0.
	pages []int
	cut   int
}

// harms reports whether a damage changes one of some pages.
func (d damage) harms(pages []int) bool {
	return slices.ContainsFunc(pages, func(p int) bool { return slices.Contains(d.pages, p) || d.cut > 0 && p >= d.cut })
}

// damages returns ways to damage a database: each kind of page in each way, many places
// at random, and cuts at every page or, if not all, at some.
func damages(db []byte, random *rand.Rand, n int, all bool) (list []damage) {
	count := len(db) / diskPage
	inPage := func(name string, p int, do func(page []byte)) {
		kind, _, _ := pageOf(db, p)
		list = append(list, damage{name: fmt.Sprint(name, ", page ", p, " of kind ", kind), pages: []int{p}, do: func(db []byte) []byte {
			do(db[p*diskPage : (p+1)*diskPage])
			return db
		}})
	}
	table, repos := rootOf(db, "repos")
	byKind := map[int][]int{} // some of each kind
	for p := 0; p < count; p++ {
		kind, _, more := pageOf(db, p)
		byKind[kind] = append(byKind[kind], p)
		if more > 0 && more < count-p && (kind == leafPage || kind == freelistPage) {
			byKind[-1] = append(byKind[-1], p+1) // goes on from the page before
			p += more
		}
	}
	chosen, some := []int{table, repos}, 1
	if all {
		some = 5
	}
	for _, kind := range []int{branchPage, leafPage, metaPage, freelistPage, -1} {
		pages := byKind[kind]
		for range min(some, len(pages)) {
			chosen = append(chosen, pages[random.IntN(len(pages))])
		}
	}
	for _, p := range chosen {
		inPage("zero", p, func(page []byte) { clear(page) })
		inPage("foreign", p, func(page []byte) { copy(page, fmt.Sprintf("%4096s", "another file")) })
		inPage("half zero", p, func(page []byte) { clear(page[len(page)/2:]) })
		for _, at := range []int{0, 8, 10, 11, 12, 16, 20, 24, 28, 40, 56, 72} {
			bit := byte(1) << random.IntN(8)
			inPage(fmt.Sprint("bit in byte ", at), p, func(page []byte) { page[at] ^= bit })
		}
		for child := range 3 {
			inPage(fmt.Sprint("loop ", child), p, func(page []byte) { copy(page[16+16*child+8:], page[:8]) })
		}
	}
	for i := range n {
		p, q := random.IntN(count), random.IntN(count)
		at, bit := random.IntN(diskPage), byte(1)<<random.IntN(8)
		inPage(fmt.Sprint("bit ", i), p, func(page []byte) { page[at] ^= bit })
		if i%4 > 0 {
			continue
		}
		list = append(list, damage{name: fmt.Sprint("swapped ", p, " ", q), pages: []int{p, q}, do: func(db []byte) []byte {
			page := slices.Clone(db[p*diskPage : (p+1)*diskPage])
			copy(db[p*diskPage:], db[q*diskPage:(q+1)*diskPage])
			copy(db[q*diskPage:], page)
			return db
		}})
		length := 1 + random.IntN(8)
		var pages []int
		for i := range min(length, count-p) {
			pages = append(pages, p+i)
		}
		list = append(list, damage{name: fmt.Sprint("zero ", p, " and more"), pages: pages, do: func(db []byte) []byte {
			clear(db[p*diskPage : (p+len(pages))*diskPage])
			return db
		}})
	}
	for p := range count {
		if !all && random.IntN(count) > 6 && p > 2 {
			continue
		}
		for _, more := range []int{0, 100, diskPage / 2} {
			list = append(list, damage{name: fmt.Sprint("cut after ", p, " pages and ", more), cut: max(p, 1), do: func(db []byte) []byte { return db[:p*diskPage+more] }})
		}
	}
	return append(list,
		damage{name: "both metas", pages: []int{0, 1}, do: func(db []byte) []byte { db[40] ^= 1; db[diskPage+40] ^= 1; return db }},
		damage{name: "all but the metas", cut: 2, do: func(db []byte) []byte { clear(db[2*diskPage:]); return db }},
		damage{name: "another file", cut: 1, do: func(db []byte) []byte { return []byte(fmt.Sprintf("%100000s", "hello world\n")) }},
	)
}
