package storetest

import (
	"errors"
	"io"

	"github.com/pullthrough/pullthrough/store"
)

func adoptChecks() []Check {
	return []Check{
		{"adopt/link", "Adopt links content that another repository has from the same origin, with the source of the adopting repository, and only there.", law(adoptLinks)},
		{"adopt/origin", "Bytes from another origin are not adopted, and allowed is not called.", law(adoptOrigin)},
		{"adopt/nobody", "If no repository has the bytes, Adopt returns ErrNotFound, and allowed is not called.", law(adoptNobody)},
		{"adopt/refused", "If allowed returns an error, Adopt returns it unchanged, and links nothing.", law(adoptRefused)},
		{"adopt/bytes", "allowed receives a reader of the bytes that are adopted, and may seek in it.", law(adoptBytes)},
		{"adopt/no lock", "allowed may call the store.", law(adoptNoLock)},
	}
}

func adoptLinks(k *kit) {
	for i, p := range []piece{blob(1, 2000, originA+"/x"), blob(2, 300<<10, originA+"/x"), manifest(3, originA+"/x")} {
		k.put("a", p)
		q := p.from(originA + "/other")
		calls := 0
		ok(k.s.Adopt(k.ctx, "b", q.Info, allow(nil, &calls)), "Adopt of piece %d", i)
		if calls != 1 {
			failf("allowed was called %d times", calls)
		}
		k.present("b", q)
		k.present("a", p)
		k.absent("c", p, "after an Adopt elsewhere")
		r := q.from(originA + "/third")
		r.Size = -1
		ok(k.s.Adopt(k.ctx, "c", r.Info, allow(nil, &calls)), "Adopt of unknown size")
		k.present("c", r)
	}
}

func adoptOrigin(k *kit) {
	p := blob(1, 2000, originA+"/x")
	k.put("a", p)
	for _, source := range []string{originB + "/x", "http://a.example/x", originA + ":444/x", "https://a.example.org/x"} {
		calls := 0
		is(k.s.Adopt(k.ctx, "b", p.from(source).Info, allow(nil, &calls)), store.ErrNotFound, "Adopt from %s of bytes from %s", source, p.Source)
		if calls != 0 {
			failf("allowed was called for %s", source)
		}
		k.absent("b", p, "after Adopt from another origin")
	}
}

func adoptNobody(k *kit) {
	p := blob(1, 2000, originA+"/x")
	calls := 0
	is(k.s.Adopt(k.ctx, "b", p.Info, allow(nil, &calls)), store.ErrNotFound, "Adopt of bytes that no repository has")
	if calls != 0 {
		failf("allowed was called")
	}
	k.absent("b", p, "after Adopt of bytes that no repository has")
}

func adoptRefused(k *kit) {
	p := blob(1, 2000, originA+"/x")
	k.put("a", p)
	calls, refusal := 0, errors.New("refused")
	err := k.s.Adopt(k.ctx, "b", p.Info, allow(refusal, &calls))
	if err != refusal {
		failf("Adopt returned %v, want the very error of allowed", err)
	}
	k.absent("b", p, "after a refused Adopt")
	k.present("a", p)
}

func adoptBytes(k *kit) {
	for _, p := range []piece{blob(1, 2000, originA+"/x"), blob(2, 300<<10, originA+"/x"), manifest(3, originA+"/x")} {
		k.put("a", p)
		ok(k.s.Adopt(k.ctx, "b", p.Info, func(_ ctxType, have io.ReadSeeker) error {
			size, err := have.Seek(0, io.SeekEnd)
			ok(err, "Seek to the end")
			if size != int64(len(p.data)) {
				failf("allowed received %d bytes, want %d", size, len(p.data))
			}
			middle := size / 2
			_, err = have.Seek(middle, io.SeekStart)
			ok(err, "Seek to the middle")
			readsAs(have, p.data[middle:])
			_, err = have.Seek(0, io.SeekStart)
			ok(err, "Seek to the start")
			readsAs(have, p.data)
			return nil
		}), "Adopt")
	}
}

func adoptNoLock(k *kit) {
	p, q := blob(1, 2000, originA+"/x"), blob(2, 2000, originA+"/x")
	k.put("a", p)
	k.unblocked("Adopt whose allowed uses the store", func() {
		ok(k.s.Adopt(k.ctx, "b", p.Info, func(ctxType, io.ReadSeeker) error {
			k.put("b", q)
			k.present("a", p)
			k.present("b", q)
			return nil
		}), "Adopt")
	})
	k.present("b", p)
}
