package buckettest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/pullthrough/pullthrough/internal/objectstore"
)

// Names of laws that some servers are known to break, for Run to skip.
const (
	CompleteConditions = "upload/conditions"
	CompleteRace       = "upload/race"
	CompleteBesidePut  = "upload/beside Put"
)

func uploadChecks() []Check {
	return []Check{
		{"upload/round trip", "Parts make an object, in their order, which is not visible before Complete.", law(uploadRoundTrip)},
		{"upload/abort", "An upload that is aborted leaves nothing; Abort after Complete removes nothing, and again is no error.", law(uploadAbort)},
		{CompleteConditions, "Complete returns ErrChanged if its condition does not hold, and leaves the object as it is.", law(uploadConditions)},
		{CompleteRace, "Of several Completes with IfAbsent at once, one succeeds, the others return ErrChanged, and its bytes are those that are there.", law(uploadRace)},
		{CompleteBesidePut, "Complete with IfAbsent returns ErrChanged if a Put was faster, and the upload can be aborted.", law(uploadBesidePut)},
		{"upload/unfinished", "Unfinished yields the uploads below a prefix that have not ended, and one that is aborted cannot be completed.", law(uploadUnfinished)},
	}
}

func (k *kit) begin(key string, parts ...string) objectstore.Upload {
	u, err := k.b.Begin(k.ctx, key)
	ok(err, "Begin of %s", key)
	for i, part := range parts {
		ok(u.Part(k.ctx, []byte(part)), "part %d of %s", i+1, key)
	}
	return u
}

func (k *kit) unfinished(prefix string) []objectstore.Unfinished {
	var all []objectstore.Unfinished
	for u, err := range k.b.Unfinished(k.ctx, prefix) {
		ok(err, "Unfinished")
		all = append(all, u)
	}
	slices.SortFunc(all, func(a, b objectstore.Unfinished) int { return strings.Compare(a.Key, b.Key) })
	return all
}

func (k *kit) noneUnfinished(when string) {
	if all := k.unfinished("a"); len(all) > 0 {
		failf("%s: unfinished are %+v", when, all)
	}
}

func uploadRoundTrip(k *kit) {
	for i, rest := range []int{0, 1, 300 << 10} {
		data := random(i, objectstore.PartSize+rest)
		key := fmt.Sprintf("a/%d", rest)
		u := k.begin(key, data[:objectstore.PartSize])
		if rest > 0 {
			p := []byte(data[objectstore.PartSize:])
			ok(u.Part(k.ctx, p), "Part")
			clear(p)
		}
		k.lacks(key, "before Complete")
		k.wantList(objectstore.Range{Prefix: key})
		ok(u.Complete(k.ctx, objectstore.IfAbsent), "Complete")
		k.has(key, data, "after Complete")
		k.wantList(objectstore.Range{Prefix: key}, key)
	}
	u := k.begin("a/small", "small")
	ok(u.Complete(k.ctx, objectstore.IfAbsent), "Complete of one small part")
	k.has("a/small", "small", "after Complete")
	k.noneUnfinished("after Complete")
}

func uploadAbort(k *kit) {
	u := k.begin("a/1", random(1, objectstore.PartSize), "rest")
	ok(u.Abort(k.ctx), "Abort")
	ok(u.Abort(k.ctx), "Abort again")
	k.lacks("a/1", "aborted")
	ok(k.begin("a/2").Abort(k.ctx), "Abort of an upload without parts")
	k.lacks("a/2", "aborted")
	if u.Complete(k.ctx, objectstore.Always) == nil {
		failf("Complete succeeds after Abort")
	}
	u = k.begin("a/3", "done")
	ok(u.Complete(k.ctx, objectstore.IfAbsent), "Complete")
	ok(u.Abort(k.ctx), "Abort after Complete")
	k.has("a/3", "done", "after Complete and Abort")
	k.noneUnfinished("after Abort")
}

func uploadConditions(k *kit) {
	k.put("a", "first")
	stale := k.etag("a")
	u := k.begin("a", "other")
	changed(u.Complete(k.ctx, objectstore.IfAbsent), "Complete over an object")
	ok(u.Abort(k.ctx), "Abort")
	k.has("a", "first", "after ErrChanged")

	u = k.begin("a", "second")
	ok(u.Complete(k.ctx, stale), "Complete with the ETag of the object")
	k.has("a", "second", "after Complete")
	u = k.begin("a", "third")
	changed(u.Complete(k.ctx, stale), "Complete with the ETag of an older version")
	ok(u.Abort(k.ctx), "Abort")
	k.has("a", "second", "after ErrChanged")
	k.noneUnfinished("after Abort")
}

func uploadRace(k *kit) {
	for round := range 5 {
		key := fmt.Sprintf("a/race/%d", round)
		var winners, winner, ready atomic.Int64
		all := make(chan struct{})
		k.together(4, func(i int) {
			u, err := k.b.Begin(k.ctx, key)
			if err == nil {
				defer u.Abort(k.ctx)
				err = u.Part(k.ctx, []byte(strconv.Itoa(i)))
			}
			if ready.Add(1) == 4 {
				close(all)
			}
			ok(err, "Begin and Part of %s", key)
			<-all
			err = u.Complete(k.ctx, objectstore.IfAbsent)
			if err == nil {
				winners.Add(1)
				winner.Store(int64(i))
				return
			}
			changed(err, "Complete that was not the first")
		})
		if winners.Load() != 1 {
			failf("round %d: %d of 4 Completes with IfAbsent have succeeded", round, winners.Load())
		}
		k.has(key, strconv.FormatInt(winner.Load(), 10), "after a race")
	}
	k.noneUnfinished("after races")
}

func uploadBesidePut(k *kit) {
	u := k.begin("a", "slow")
	ok(k.b.Put(k.ctx, "a", []byte("fast"), objectstore.IfAbsent), "Put beside an upload")
	changed(u.Complete(k.ctx, objectstore.IfAbsent), "Complete after Put")
	ok(u.Abort(k.ctx), "Abort")
	k.has("a", "fast", "after ErrChanged")
	k.noneUnfinished("after Abort")
}

func uploadUnfinished(k *kit) {
	first := k.begin("a/1", "1")
	second := k.begin("a/2", "2")
	other := k.begin("b/1", "3")
	defer other.Abort(k.ctx)
	all := k.unfinished("a/")
	if len(all) == 0 {
		ok(first.Abort(k.ctx), "Abort")
		ok(second.Abort(k.ctx), "Abort")
		panic(failure{fmt.Errorf("%w: the server does not tell unfinished uploads", errors.ErrUnsupported)})
	}
	if len(all) != 2 || all[0].Key != "a/1" || all[1].Key != "a/2" || all[0].Begun.IsZero() {
		failf("unfinished are %+v, want a/1 and a/2", all)
	}
	ok(k.b.Abort(k.ctx, all[0]), "Abort")
	ok(k.b.Abort(k.ctx, all[0]), "Abort again")
	if first.Complete(k.ctx, objectstore.IfAbsent) == nil {
		failf("what was aborted can be completed")
	}
	ok(first.Abort(k.ctx), "Abort by its writer")
	k.lacks("a/1", "aborted")
	if all = k.unfinished("a/"); len(all) != 1 || all[0].Key != "a/2" {
		failf("unfinished are %+v, want a/2", all)
	}
	ok(second.Complete(k.ctx, objectstore.IfAbsent), "Complete")
	k.has("a/2", "2", "after Complete")
	k.noneUnfinished("after Complete")
}
