package storetest

import (
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/store"
)

func useChecks() []Check {
	return []Check{
		{"uses/first", "A manifest is used for the first time when it is linked: once, in this hour, and to the second, whatever the caller says of its use.", law(useFirst)},
		{"uses/hour", "In one hour a manifest is used once, however often its use is recorded and however often it is linked.", law(useHour)},
		{"uses/missing", "The use of what is not there, and of blobs, makes nothing visible, and does not count later.", law(useMissing)},
		{"uses/forgotten", "Deletion forgets the use in one repository.", law(useForgotten)},
	}
}

// uses returns the use of each manifest of a repository.
func (k *kit) uses(repo string) map[digest.Digest]store.Use {
	all := make(map[digest.Digest]store.Use)
	for info, err := range need[store.ManifestLister](k).Manifests(k.ctx, repo) {
		ok(err, "Manifests of %s", repo)
		all[info.Digest] = info.Use
	}
	return all
}

// usedOnce fails unless exactly the manifests want are there and each was used within
// this hour. A check may run while an hour ends.
func (k *kit) usedOnce(repo string, began time.Time, when string, want ...piece) {
	all := k.uses(repo)
	now := time.Now()
	if len(all) != len(want) {
		failf("%d manifests in %s %s, want %d", len(all), repo, when, len(want))
	}
	most := 1 + int(now.Truncate(time.Hour).Sub(began.Truncate(time.Hour))/time.Hour)
	for _, p := range want {
		u, there := all[p.Digest]
		if !there {
			failf("a manifest is not in %s %s", repo, when)
		}
		for at, unit := range map[time.Time]time.Duration{u.First: time.Second, u.Last: time.Hour} {
			if !at.Equal(at.Truncate(unit)) {
				failf("%s: the time %v is finer than %v", when, at, unit)
			}
			if at.Before(began.Truncate(unit)) || at.After(now) {
				failf("%s: a use at %v, but all of it happened between %v and %v", when, at, began, now)
			}
		}
		if u.Hours < 1 || u.Hours > most || u.Hours == 1 && u.Pause != 0 {
			failf("%s: the use is %+v in %d hours", when, u, most)
		}
	}
}

func useFirst(k *kit) {
	need[store.UseRecorder](k)
	began := time.Now()
	p, q := manifest(1, originA+"/x"), manifest(2, originA+"/x")
	p.Use = store.Use{First: began.Add(-100 * time.Hour), Last: began.Add(100 * time.Hour), Hours: 99}
	k.put("a", p)
	calls := 0
	ok(k.s.Adopt(k.ctx, "b", p.Info, allow(nil, &calls)), "Adopt")
	k.put("a", q.as(layerType))
	k.usedOnce("a", began, "once linked", p)
	k.put("a", q)
	k.usedOnce("a", began, "once linked", p, q)
	k.usedOnce("b", began, "once adopted", p)
	if b, can := store.As[store.Batcher](k.s); can {
		ok(b.Apply(k.ctx, &store.Batch{Content: pieces("c", p, q)}), "Apply")
		k.usedOnce("c", began, "once linked by a batch", p, q)
	}
}

func useHour(k *kit) {
	r := need[store.UseRecorder](k)
	began := time.Now()
	p, q := manifest(1, originA+"/x"), manifest(2, originA+"/x")
	k.put("a", p)
	k.put("a", q)
	k.put("b", p)
	for range 3 {
		r.RecordUse("a", p.Digest)
		k.usedOnce("a", began, "after RecordUse", p, q)
	}
	k.put("a", p.from(originB+"/y"))
	k.put("a", p.as(layerType))
	k.usedOnce("a", began, "linked again", p, q)
	k.together(4, func(int) {
		for range 50 {
			r.RecordUse("a", q.Digest)
		}
	})
	k.usedOnce("a", began, "after RecordUse by many at once", p, q)
	k.usedOnce("b", began, "that nobody used", p)
}

func useMissing(k *kit) {
	r := need[store.UseRecorder](k)
	began := time.Now()
	p, q, layer := manifest(1, originA+"/x"), manifest(2, originA+"/x"), blob(3, 2000, originA+"/x")
	k.put("a", q)
	k.put("a", layer)
	for _, repo := range []string{"a", "b", "../a", ""} {
		r.RecordUse(repo, p.Digest)
		r.RecordUse(repo, layer.Digest)
		r.RecordUse(repo, "sha256:short")
		r.RecordUse(repo, "")
	}
	k.put("c", q) // a change that uses may be written along with
	k.usedOnce("a", began, "after RecordUse of what is not there", q)
	k.usedOnce("b", began, "after RecordUse in a repository that is not there")
	if _, can := store.As[store.Lister](k.s); can {
		k.repositories("a", "c")
	}
	k.absent("a", p, "after RecordUse of it")
	layer = layer.as(p.MediaType)
	k.put("a", layer)
	k.put("a", p)
	k.usedOnce("a", began, "once linked", p, q, layer)
}

func useForgotten(k *kit) {
	r, d := need[store.UseRecorder](k), need[store.Deleter](k)
	began := time.Now()
	p := manifest(1, originA+"/x")
	k.put("a", p)
	k.put("b", p)
	r.RecordUse("a", p.Digest)
	ok(d.Delete(k.ctx, "a", p.Digest), "Delete")
	k.usedOnce("a", began, "after Delete")
	k.usedOnce("b", began, "after Delete elsewhere", p)
	r.RecordUse("a", p.Digest)
	k.put("c", p)
	k.usedOnce("a", began, "after RecordUse of what was deleted")
	k.put("a", p)
	k.usedOnce("a", began, "linked again after Delete", p)
}
