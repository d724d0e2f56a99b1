package storetest

import (
	"context"

	"github.com/pullthrough/pullthrough/store"
)

func spaceChecks() []Check {
	return []Check{
		{"space/content", "Size counts each piece of content once, however often and in however many repositories it is linked, and no longer once nothing links it.", law(spaceContent)},
		{"space/repository", "RepositorySize counts what a repository links, shared or not, and no longer once that is deleted; a repository that is not there has 0.", law(spaceRepository)},
		{"space/unfinished", "What is not committed is no content.", law(spaceUnfinished)},
		{"space/batch", "A batch counts like the calls that it stands for.", law(spaceBatch)},
		{"space/rest", "The overhead is not negative, and no more is free than before something was stored.", law(spaceRest)},
		{"space/arguments", "RepositorySize of what is no repository name is an error, and so are both after the end of their context.", law(spaceArguments)},
	}
}

// sizes are what content, and the repositories a and b, have.
type sizes struct{ content, a, b int64 }

func (k *kit) wantSizes(want sizes, when string) {
	s := need[store.Sizer](k)
	total, err := s.Size(k.ctx)
	ok(err, "Size")
	got := sizes{content: total.Content}
	got.a, err = s.RepositorySize(k.ctx, "a")
	ok(err, "RepositorySize")
	got.b, err = s.RepositorySize(k.ctx, "b")
	ok(err, "RepositorySize")
	if got != want {
		failf("%s: got %+v, want %+v", when, got, want)
	}
	if total.Overhead < 0 {
		failf("%s: the overhead is %d", when, total.Overhead)
	}
}

// spacePieces are content that a store may keep in different ways: 2,000, 40 Ki and 400
// bytes.
func spacePieces() (small, large, m piece) {
	return blob(1, 2000, originA+"/x"), blob(2, 40<<10, originA+"/x"), manifest(3, originA+"/x")
}

const spaceAll = 2000 + 40<<10 + 400

func spaceContent(k *kit) {
	need[store.Sizer](k)
	small, large, m := spacePieces()
	k.wantSizes(sizes{}, "an empty store")
	for _, p := range []piece{small, large, m.as(layerType), blob(4, 0, originA+"/x")} {
		k.put("a", p)
	}
	k.wantSizes(sizes{content: spaceAll, a: spaceAll}, "once put")
	for _, p := range []piece{small, large.from(originB + "/y"), m, m.from(originB + "/y"), m.as(layerType), small.as(m.MediaType)} {
		k.put("a", p)
	}
	k.wantSizes(sizes{content: spaceAll, a: spaceAll}, "put again, from elsewhere, as a manifest and as a blob")
	for _, p := range []piece{small, large.from(originB + "/y"), m.from(originB + "/y")} {
		calls := 0
		ok(k.s.Adopt(k.ctx, "b", p.Info, allow(nil, &calls)), "Adopt")
		ok(k.s.Adopt(k.ctx, "b", p.Info, allow(nil, &calls)), "Adopt again")
	}
	k.put("b", large)
	k.wantSizes(sizes{content: spaceAll, a: spaceAll, b: spaceAll}, "adopted")
	d, can := store.As[store.Deleter](k.s)
	if !can {
		return
	}
	for _, repo := range []string{"a", "a", "b", "b"} {
		for _, p := range []piece{small, large, m} {
			ok(d.Delete(k.ctx, repo, p.Digest), "Delete")
		}
		if repo == "a" {
			k.wantSizes(sizes{content: spaceAll, b: spaceAll}, "deleted from one repository")
		}
	}
	k.wantSizes(sizes{}, "deleted")
	k.put("b", small)
	k.wantSizes(sizes{content: 2000, b: 2000}, "put after it was deleted")
}

func spaceRepository(k *kit) {
	s, d := need[store.Sizer](k), need[store.Deleter](k)
	small, large, m := spacePieces()
	k.put("a", small)
	k.put("a/b", large)
	k.put("a-b", m)
	k.setTag("b", "v1", tag("one", originA+"/x", noon(0)))
	k.wantSizes(sizes{content: spaceAll, a: 2000}, "repositories with similar names")
	k.put("b", m)
	k.put("b", large)
	k.wantSizes(sizes{content: spaceAll, a: 2000, b: 40<<10 + 400}, "shared with others")
	ok(d.Delete(k.ctx, "b", large.Digest), "Delete")
	ok(d.Delete(k.ctx, "b", small.Digest), "Delete of what is elsewhere")
	k.wantSizes(sizes{content: spaceAll, a: 2000, b: 400}, "after Delete")
	ok(d.Delete(k.ctx, "a", small.Digest), "Delete")
	k.wantSizes(sizes{content: spaceAll - 2000, b: 400}, "after Delete of all")
	if n, err := s.RepositorySize(k.ctx, "none"); n != 0 || err != nil {
		failf("RepositorySize of what is not there: %d, %v", n, err)
	}
}

func spaceUnfinished(k *kit) {
	need[store.Sizer](k)
	small, large, m := spacePieces()
	for i, p := range []piece{small, large, m} {
		w := k.write("a", p)
		k.wantSizes(sizes{}, "while it is written")
		ok(w.Close(), "Close")
		if _, can := store.As[store.Spooler](k.s); can {
			sp := k.spool("b", p)
			writeAt(sp, p, 0, len(p.data))
			k.wantSizes(sizes{}, "in a spool")
			ok(sp.Close(), "Close of spool %d", i)
		}
	}
	k.wantSizes(sizes{}, "given up")
	if _, can := store.As[store.Spooler](k.s); can {
		sp := k.spool("b", large)
		writeAt(sp, large, 0, len(large.data))
		ok(sp.Commit(k.ctx, large.Info), "Commit")
		k.wantSizes(sizes{content: 40 << 10, b: 40 << 10}, "a spool that is committed")
		ok(sp.Close(), "Close")
		k.wantSizes(sizes{content: 40 << 10, b: 40 << 10}, "a spool that is closed")
	}
}

func spaceBatch(k *kit) {
	need[store.Sizer](k)
	small, large, m := spacePieces()
	k.put("b", large) // as a store keeps it that is not brought by a batch
	k.apply(&store.Batch{Content: pieces("a", small, large, m.as(layerType), m, m.from(originB+"/y"), small)})
	k.apply(&store.Batch{Content: pieces("a", m.as(layerType), large)})
	k.wantSizes(sizes{content: spaceAll, a: spaceAll, b: 40 << 10}, "batches of the same content")
	k.apply(&store.Batch{
		Content:   pieces("b", small, m),
		Deletions: []store.Deletion{{Repo: "b", Digest: small.Digest}, {Repo: "a", Digest: large.Digest}, {Repo: "a", Digest: m.Digest}, {Repo: "a", Digest: m.Digest}},
	})
	k.wantSizes(sizes{content: spaceAll, a: 2000, b: 40<<10 + 400}, "a batch with deletions")
	k.apply(&store.Batch{Deletions: []store.Deletion{{Repo: "b", Digest: large.Digest}, {Repo: "b", Digest: m.Digest}, {Repo: "a", Digest: small.Digest}}})
	k.wantSizes(sizes{}, "a batch that deletes all")
	k.apply(&store.Batch{Content: pieces("b", large), Deletions: []store.Deletion{{Repo: "b", Digest: large.Digest}}})
	k.wantSizes(sizes{}, "a batch that deletes what it brings")
}

func spaceRest(k *kit) {
	s := need[store.Sizer](k)
	before, err := s.Size(k.ctx)
	ok(err, "Size")
	p := blob(1, 300<<10, originA+"/x")
	k.put("a", p)
	k.setTag("a", "v1", tag("one", originA+"/x", noon(0)))
	after, err := s.Size(k.ctx)
	ok(err, "Size")
	if before.Overhead < 0 || after.Overhead < 0 {
		failf("an overhead of %d, %d", before.Overhead, after.Overhead)
	}
	if (before.Free < 0) != (after.Free < 0) {
		failf("how much is free is known only now and then: %d, %d", before.Free, after.Free)
	}
	// Others may use the disk, too, and free something on it.
	if before.Free >= 0 && after.Free > before.Free+64<<20 {
		failf("%d were free, and after %d bytes were stored %d", before.Free, len(p.data), after.Free)
	}
}

func spaceArguments(k *kit) {
	s := need[store.Sizer](k)
	for _, bad := range []string{"", "../a", "A", "a//b"} {
		if _, err := s.RepositorySize(k.ctx, bad); err == nil {
			failf("RepositorySize of %q is no error", bad)
		}
	}
	ctx, cancel := context.WithCancel(k.ctx)
	cancel()
	_, err := s.Size(ctx)
	is(err, context.Canceled, "Size after the end of its context")
	_, err = s.RepositorySize(ctx, "a")
	is(err, context.Canceled, "RepositorySize after the end of its context")
}
