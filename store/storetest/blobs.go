package storetest

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/store"
)

func blobListChecks() []Check {
	return []Check{
		{"list/blobs", "Blobs yields the blobs of one repository and nothing else, in the order of their digests, with all that Stat returns.", law(listBlobs)},
		{"list/deleted blobs", "Blobs yields neither what was deleted nor what has become a manifest.", law(listDeletedBlobs)},
		{"list/many", "Lists of content are whole and in order, however long they are.", law(listMany)},
		{"list/context", "Lists of content end with the error of their context when that ends, also while they are read.", law(listContext)},
	}
}

// wantBlobs compares the blobs of a repository with want, which may be in any order.
func (k *kit) wantBlobs(repo string, want ...piece) {
	l := need[store.BlobLister](k)
	var got []store.Info
	for info, err := range l.Blobs(k.ctx, repo) {
		ok(err, "Blobs of %s", repo)
		got = append(got, info)
	}
	want = slices.SortedFunc(slices.Values(want), func(a, b piece) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
	if len(got) != len(want) {
		failf("Blobs of %s: got %d, want %d", repo, len(got), len(want))
	}
	for i, p := range want {
		info, err := k.s.Stat(k.ctx, repo, p.Digest)
		ok(err, "Stat in %s", repo)
		same(got[i], info, "Blobs of "+repo+" beside Stat")
	}
	for range l.Blobs(k.ctx, repo) {
		break // must be allowed
	}
}

func listBlobs(k *kit) {
	l := need[store.BlobLister](k)
	k.wantBlobs("a")
	var all []piece
	for seed := range uint64(8) {
		p := blob(seed, 100, originA+"/x")
		switch seed {
		case 1:
			p = blob(seed, 40<<10, originA+"/x")
		case 2:
			p.Digest = digest.SHA512.FromBytes(p.data)
		case 3:
			p = blob(seed, 0, originA+"/x")
		case 4:
			p.Size = -1
		}
		k.put("a", p)
		all = append(all, p)
	}
	k.put("a", manifest(1, originA+"/x"))
	k.put("a", manifest(2, originA+"/x").as(layerType).blob())
	all = append(all, manifest(2, originA+"/x").as(layerType))
	k.setTag("a", "v1", tag("one", originA+"/x", noon(0)))
	k.put("a/b", all[0].from(originB+"/y"))
	k.put("a-b", all[5])
	k.wantBlobs("a", all...)
	k.wantBlobs("a/b", all[0].from(originB+"/y"))
	k.wantBlobs("b")
	failed := false
	for _, err := range l.Blobs(k.ctx, "../a") {
		failed = err != nil
	}
	if !failed {
		failf("Blobs of what is no repository name yields no error")
	}
}

func listDeletedBlobs(k *kit) {
	need[store.BlobLister](k)
	d := need[store.Deleter](k)
	p, q, m := blob(1, 100, originA+"/x"), blob(2, 40<<10, originA+"/x"), manifest(3, originA+"/x")
	for _, p := range []piece{p, q, m.as(layerType)} {
		k.put("a", p)
		k.put("b", p)
	}
	k.put("a", m)
	k.wantBlobs("a", p, q)
	ok(d.Delete(k.ctx, "a", q.Digest), "Delete")
	k.wantBlobs("a", p)
	k.wantBlobs("b", p, q, m)
	ok(d.Delete(k.ctx, "a", p.Digest), "Delete")
	ok(d.Delete(k.ctx, "a", m.Digest), "Delete")
	k.wantBlobs("a")
	k.put("a", q)
	k.wantBlobs("a", q)
}

// contentLists are the lists of the content of a repository.
func (k *kit) contentLists() map[string]func(context.Context, string) iter.Seq2[store.Info, error] {
	return map[string]func(context.Context, string) iter.Seq2[store.Info, error]{
		"Blobs":     need[store.BlobLister](k).Blobs,
		"Manifests": need[store.ManifestLister](k).Manifests,
	}
}

func listMany(k *kit) {
	lists := k.contentLists()
	const n = 300 // of each
	k.together(8, func(i int) {
		for ; i < n; i += 8 {
			k.put("a", blob(uint64(i), 20, originA+"/x"))
			k.put("a", manifest(uint64(i), originA+"/x"))
		}
	})
	for name, list := range lists {
		var last digest.Digest
		got := 0
		for info, err := range list(k.ctx, "a") {
			ok(err, "%s", name)
			if info.Digest <= last {
				failf("%s: %s after %s", name, info.Digest, last)
			}
			last = info.Digest
			got++
		}
		if got != n {
			failf("%s: got %d of %d", name, got, n)
		}
	}
}

func listContext(k *kit) {
	lists := k.contentLists()
	for i := range uint64(3) {
		k.put("a", blob(i, 100, originA+"/x"))
		k.put("a", manifest(i, originA+"/x"))
	}
	for name, list := range lists {
		ctx, cancel := context.WithCancel(k.ctx)
		defer cancel()
		for before := range 2 { // once while it is read, once before
			var errs []error
			for _, err := range list(ctx, "a") {
				errs = append(errs, err)
				cancel()
			}
			if len(errs) != 2-before {
				failf("%s: %d steps after the end of the context", name, len(errs))
			}
			is(errs[len(errs)-1], context.Canceled, "%s, last of %s", name, fmt.Sprint(len(errs)))
		}
	}
}
