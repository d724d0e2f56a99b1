package storetest

import (
	"errors"
	"io"

	"github.com/pullthrough/pullthrough/store"
)

func deleteChecks() []Check {
	return []Check{
		{"delete/content", "Delete unlinks content from one repository and no other; the content can be committed again.", law(deleteContent)},
		{"delete/reader", "A reader that is open can still read after Delete.", law(deleteReader)},
		{"delete/adopt", "After Delete, content becomes visible in another repository only if allowed was called.", law(deleteAdopt)},
		{"delete/tag", "DeleteTag removes one tag; SetTag may then set it with an earlier time.", law(deleteTag)},
		{"delete/missing", "Deleting content or a tag that does not exist is no error.", law(deleteMissing)},
	}
}

func deleteContent(k *kit) {
	d := need[store.Deleter](k)
	for _, p := range []piece{blob(1, 2000, originA+"/x"), manifest(2, originA+"/x")} {
		k.put("a", p)
		k.put("b", p)
		ok(d.Delete(k.ctx, "a", p.Digest), "Delete")
		k.absent("a", p, "after Delete")
		k.present("b", p)
		k.put("a", p)
		k.present("a", p)
		ok(d.Delete(k.ctx, "a", p.Digest), "Delete")
		ok(d.Delete(k.ctx, "b", p.Digest), "Delete")
		k.absent("b", p, "after Delete")
		k.put("b", p)
		k.present("b", p)
	}
}

func deleteReader(k *kit) {
	d := need[store.Deleter](k)
	p := blob(1, 300<<10, originA+"/x")
	k.put("a", p)
	_, r, err := k.s.Open(k.ctx, "a", p.Digest)
	ok(err, "Open")
	defer r.Close()
	_, err = io.CopyN(io.Discard, r, 1000)
	ok(err, "read")
	ok(d.Delete(k.ctx, "a", p.Digest), "Delete")
	readsAs(r, p.data[1000:])
}

func deleteAdopt(k *kit) {
	d := need[store.Deleter](k)
	p := blob(1, 2000, originA+"/x")
	k.put("a", p)
	ok(d.Delete(k.ctx, "a", p.Digest), "Delete")
	calls, refusal := 0, errors.New("refused")
	if err := k.s.Adopt(k.ctx, "b", p.Info, allow(refusal, &calls)); err != refusal {
		is(err, store.ErrNotFound, "Adopt after Delete")
	}
	k.absent("a", p, "after Delete")
	k.absent("b", p, "after Delete and a refused Adopt")
	calls = 0
	err := k.s.Adopt(k.ctx, "b", p.Info, allow(nil, &calls))
	k.absent("a", p, "after Delete and an Adopt elsewhere")
	if err != nil {
		is(err, store.ErrNotFound, "Adopt after Delete")
		k.absent("b", p, "after ErrNotFound")
		return
	}
	if calls == 0 {
		failf("Adopt after Delete did not call allowed")
	}
	k.present("b", p)
}

func deleteTag(k *kit) {
	d := need[store.Deleter](k)
	t := tag("one", originA+"/x", noon(5))
	for _, name := range []string{"v1", "V1", "v2"} {
		k.setTag("a", name, t)
	}
	k.setTag("b", "v1", t)
	ok(d.DeleteTag(k.ctx, "a", "v1"), "DeleteTag")
	_, err := k.s.Tag(k.ctx, "a", "v1")
	is(err, store.ErrNotFound, "Tag after DeleteTag")
	k.wantTag("a", "V1", t)
	k.wantTag("a", "v2", t)
	k.wantTag("b", "v1", t)
	earlier := tag("one", originA+"/x", noon(4))
	k.setTag("a", "v1", earlier)
	k.wantTag("a", "v1", earlier)
}

func deleteMissing(k *kit) {
	d := need[store.Deleter](k)
	p := blob(1, 2000, originA+"/x")
	ok(d.Delete(k.ctx, "a", p.Digest), "Delete in a repository that is not there")
	ok(d.DeleteTag(k.ctx, "a", "v1"), "DeleteTag in a repository that is not there")
	k.put("a", p)
	ok(d.Delete(k.ctx, "a", blob(2, 1, "").Digest), "Delete of what is not there")
	ok(d.DeleteTag(k.ctx, "a", "v1"), "DeleteTag of what is not there")
	k.present("a", p)
}
