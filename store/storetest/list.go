package storetest

import (
	"iter"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullthrough/pullthrough/store"
)

func listChecks() []Check {
	return []Check{
		{"list/repositories", "Repositories yields those with a tag or a manifest, in the order of their bytes, after last.", law(listRepositories)},
		{"list/tags", "TagNames yields the tags of one repository in the order of their bytes, after last.", law(listTags)},
		{"list/referrers", "Referrers yields the manifests of one repository that refer to a digest, with all that a list of referrers has.", law(listReferrers)},
		{"list/deleted", "Deleted content and tags are not listed.", law(listDeleted)},
		{"list/manifests", "Manifests yields the manifests of one repository and nothing else, in the order of their digests, with all that Stat returns.", law(listManifests)},
		{"list/deleted manifests", "Manifests does not yield a deleted manifest, and yields it again once it is linked again.", law(listDeletedManifests)},
	}
}

// wantList compares a list from the start, after each name, and after texts between them.
func wantList(what string, list func(last string) iter.Seq2[string, error], want ...string) {
	get := func(last string) (got []string) {
		for name, err := range list(last) {
			ok(err, "%s after %q", what, last)
			got = append(got, name)
		}
		return got
	}
	after := func(last string) (rest []string) {
		for _, name := range want {
			if name > last {
				rest = append(rest, name)
			}
		}
		return rest
	}
	slices.Sort(want)
	lasts := []string{"", "A", "a", "zzz"}
	for _, name := range want {
		lasts = append(lasts, name, name+"-", name+"/", name+"0", name[:len(name)-1], name+"/zz")
	}
	for _, last := range lasts {
		if got := get(last); !slices.Equal(got, after(last)) {
			failf("%s after %q: got %q, want %q", what, last, got, after(last))
		}
	}
	for range list("") {
		break // must be allowed
	}
}

func (k *kit) repositories(want ...string) {
	l := need[store.Lister](k)
	wantList("Repositories", func(last string) iter.Seq2[string, error] { return l.Repositories(k.ctx, last) }, want...)
}

func (k *kit) tagNames(repo string, want ...string) {
	l := need[store.Lister](k)
	wantList("TagNames", func(last string) iter.Seq2[string, error] { return l.TagNames(k.ctx, repo, last) }, want...)
}

func listRepositories(k *kit) {
	need[store.Lister](k)
	k.repositories()
	names := []string{"a", "a-b", "a.b", "a/b", "a/b/c", "a0", "a_b", "b/c", "b-c/d", "b/c-d", "0"}
	for i, name := range names {
		if i%2 == 0 {
			k.setTag(name, "v1", tag("one", originA+"/x", noon(0)))
		} else {
			k.put(name, manifest(1, originA+"/x"))
		}
	}
	k.put("only-blobs", blob(1, 100, originA+"/x"))
	k.put("a/only-blobs", blob(1, 100, originA+"/x"))
	k.repositories(names...)
}

func listTags(k *kit) {
	need[store.Lister](k)
	k.tagNames("a")
	tags := []string{"latest", "Latest", "v1", "v1.0", "v1-0", "V2", "v10", "_x", "A", "a", "Z", "0"}
	for _, name := range tags {
		k.setTag("a", name, tag("one", originA+"/x", noon(0)))
	}
	k.setTag("a/b", "other", tag("one", originA+"/x", noon(0)))
	k.tagNames("a", tags...)
	k.tagNames("a/b", "other")
}

func (k *kit) wantReferrers(repo string, d digest.Digest, want ...piece) {
	var got []ocispec.Descriptor
	for desc, err := range need[store.Lister](k).Referrers(k.ctx, repo, d) {
		ok(err, "Referrers")
		got = append(got, desc)
	}
	slices.SortFunc(want, func(a, b piece) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
	if len(got) != len(want) {
		failf("%d referrers of %s in %s, want %d", len(got), d, repo, len(want))
	}
	for i, p := range want {
		info := store.Info{Descriptor: got[i], Source: p.Source, Subject: p.Subject}
		same(info, p.Info, "Referrers")
	}
}

func listReferrers(k *kit) {
	need[store.Lister](k)
	subject := manifest(1, originA+"/x")
	k.put("a", subject)
	k.wantReferrers("a", subject.Digest)
	var refs []piece
	for seed := range uint64(5) {
		p := manifest(10+seed, originA+"/x")
		p.Subject = subject.Digest
		k.put("a", p)
		refs = append(refs, p)
	}
	other := manifest(20, originA+"/x")
	other.Subject = digest.FromString("something else")
	k.put("a", other)
	k.wantReferrers("a", subject.Digest, refs...)
	k.wantReferrers("a", other.Subject, other)
	k.wantReferrers("b", subject.Digest)
	k.put("b", refs[0])
	k.wantReferrers("b", subject.Digest, refs[0])
}

func listDeleted(k *kit) {
	need[store.Lister](k)
	d := need[store.Deleter](k)
	p := manifest(1, originA+"/x")
	p.Subject = digest.FromString("subject")
	k.put("a/b", p)
	k.setTag("a/b", "v1", tag("one", originA+"/x", noon(0)))
	k.setTag("c", "v1", tag("one", originA+"/x", noon(0)))
	k.repositories("a/b", "c")
	k.wantReferrers("a/b", p.Subject, p)
	ok(d.Delete(k.ctx, "a/b", p.Digest), "Delete")
	k.wantReferrers("a/b", p.Subject)
	k.repositories("a/b", "c")
	ok(d.DeleteTag(k.ctx, "a/b", "v1"), "DeleteTag")
	k.tagNames("a/b")
	k.repositories("c")
}

// wantManifests compares the manifests of a repository with want, which may be in any order.
func (k *kit) wantManifests(repo string, want ...piece) {
	l := need[store.ManifestLister](k)
	var got []store.Info
	for info, err := range l.Manifests(k.ctx, repo) {
		ok(err, "Manifests of %s", repo)
		got = append(got, info)
	}
	want = slices.SortedFunc(slices.Values(want), func(a, b piece) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
	if len(got) != len(want) {
		failf("Manifests of %s: got %d, want %d", repo, len(got), len(want))
	}
	for i, p := range want {
		same(got[i], p.Info, "Manifests of "+repo)
		info, err := k.s.Stat(k.ctx, repo, p.Digest)
		ok(err, "Stat in %s", repo)
		same(got[i], info, "Manifests of "+repo+" beside Stat")
	}
	for range l.Manifests(k.ctx, repo) {
		break // must be allowed
	}
}

func listManifests(k *kit) {
	need[store.ManifestLister](k)
	k.wantManifests("a")
	var all []piece
	for seed := range uint64(8) {
		p := manifest(seed, originA+"/x")
		switch seed {
		case 0:
			p.Subject = digest.FromString("subject")
		case 1:
			p = p.as("application/vnd.example.unknown+json")
			p.Manifest = true
		case 2:
			p.Digest = digest.SHA512.FromBytes(p.data)
		case 3:
			k.put("a", p.as(layerType)) // it becomes a manifest
		}
		k.put("a", p)
		all = append(all, p)
	}
	k.put("a", blob(1, 400, originA+"/x").blob())
	k.setTag("a", "v1", tag("one", originA+"/x", noon(0)))
	k.put("a/b", all[0].from(originB+"/y"))
	k.put("only-blobs", blob(1, 500, originA+"/x"))
	k.wantManifests("a", all...)
	k.wantManifests("a/b", all[0].from(originB+"/y"))
	k.wantManifests("only-blobs")
	k.wantManifests("b")
	failed := false
	for _, err := range need[store.ManifestLister](k).Manifests(k.ctx, "../a") {
		failed = err != nil
	}
	if !failed {
		failf("Manifests of what is no repository name yields no error")
	}
}

func listDeletedManifests(k *kit) {
	need[store.ManifestLister](k)
	d := need[store.Deleter](k)
	p, q := manifest(1, originA+"/x"), manifest(2, originA+"/x")
	k.put("a", p)
	k.put("a", q)
	k.put("b", p)
	ok(d.Delete(k.ctx, "a", p.Digest), "Delete")
	k.wantManifests("a", q)
	k.wantManifests("b", p)
	k.put("a", p)
	k.wantManifests("a", p, q)
}
