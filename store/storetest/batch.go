package storetest

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pullthrough/pullthrough/store"
)

func batchChecks() []Check {
	return []Check{
		{"batch/content", "Content of a batch is linked as Commit links it: a blob that is there becomes a manifest, a manifest stays one, and another source replaces the former.", law(batchContent)},
		{"batch/order", "A batch does content, tags, deletions and records in this order, and each of them in the order of its list.", law(batchOrder)},
		{"batch/wrong", "A batch with a wrong argument returns an error and does nothing.", law(batchWrong)},
		{"batch/context", "A batch whose context has ended returns the error of the context and does nothing.", law(batchContext)},
		{"batch/as one", "Who reads meanwhile sees all of a batch or nothing: no tag without its content and its records, and no record without the tag.", law(batchAsOne)},
		{"batch/records of a tag", "The records of a tag change if and only if the tag changes.", law(batchTagRecords)},
		{"batch/stale", "A stale tag fails nothing else in its batch; Err is ErrStale for it, and nil for a tag that was set, whatever it was before.", law(batchStale)},
		{"batch/deletions", "A batch deletes content from one repository, and a tag only if it points to the digest of the deletion or that has none; what is not there is no error.", law(batchDeletions)},
		{"batch/records", "Records without data are deleted, and those with empty data are put.", law(batchRecords)},
		{"batch/not kept", "What a batch pointed to may change once Apply has returned.", law(batchNotKept)},
		{"batch/empty", "An empty batch is no error.", law(batchEmpty)},
	}
}

// apply does a batch that must succeed.
func (k *kit) apply(b *store.Batch) {
	ok(need[store.Batcher](k).Apply(k.ctx, b), "Apply")
}

// in returns p as a piece of a batch.
func (p piece) in(repo string) store.Piece {
	return store.Piece{Repo: repo, Info: p.Info, Bytes: p.data}
}

func pieces(repo string, list ...piece) (all []store.Piece) {
	for _, p := range list {
		all = append(all, p.in(repo))
	}
	return all
}

func set(repo, name string, t store.Tag, records ...store.RecordChange) store.TagChange {
	return store.TagChange{Repo: repo, Tag: name, Value: t, Records: records}
}

func record(kind, key, data string) store.RecordChange {
	return store.RecordChange{Kind: kind, Key: key, Data: []byte(data)}
}

func noRecord(kind, key string) store.RecordChange { return store.RecordChange{Kind: kind, Key: key} }

func (k *kit) noTag(repo, name, when string) {
	_, err := k.s.Tag(k.ctx, repo, name)
	is(err, store.ErrNotFound, "Tag %s:%s %s", repo, name, when)
}

func batchContent(k *kit) {
	p, q := blob(1, 2000, originA+"/x"), manifest(2, originA+"/x")
	q.Subject = p.Digest
	unknown := manifest(3, originA+"/x").as("application/vnd.example.unknown+json")
	unknown.Manifest, unknown.Size = true, -1
	empty, large := blob(4, 0, originA+"/x"), blob(5, 40<<10, originA+"/x")
	all := []piece{p, q, unknown, empty, large}
	k.apply(&store.Batch{Content: append(pieces("a", all...), p.in("b"))})
	for _, piece := range all {
		k.present("a", piece)
	}
	k.present("b", p)
	k.absent("b", q, "after a batch for another repository")
	// What is there already.
	becomes := p.as(q.MediaType).from(originB + "/y")
	k.apply(&store.Batch{Content: pieces("a", becomes, q.as(layerType), large.from(originB+"/y"))})
	k.present("a", becomes)
	k.present("a", q)
	k.present("a", large.from(originB+"/y"))
	k.present("b", p)
	k.put("a", empty.as(q.MediaType))
	k.apply(&store.Batch{Content: pieces("a", empty)})
	k.present("a", empty.as(q.MediaType))
}

func batchOrder(k *kit) {
	need[store.Batcher](k)
	p, q := manifest(1, originA+"/x"), manifest(2, originA+"/x")
	first, second := tag("one", originA+"/x", noon(1)), tag("two", originA+"/x", noon(2))
	b := &store.Batch{
		Content: pieces("a", p, q, q.from(originB+"/y")),
		Tags: []store.TagChange{
			set("a", "gone", first, record("jobs", "of-the-tag", ""), record("jobs", "moved", "first")),
			set("a", "moved", first, record("jobs", "moved", "first")),
			set("a", "moved", second, record("jobs", "moved", "second")),
			set("a", "moved", first, record("jobs", "moved", "third")),
		},
		Deletions: []store.Deletion{{Repo: "a", Digest: p.Digest}, {Repo: "a", Tag: "gone"}},
		Records:   []store.RecordChange{record("jobs", "of-the-batch", "one"), record("jobs", "of-the-batch", "two"), noRecord("jobs", "of-the-tag")},
	}
	k.apply(b)
	k.absent("a", p, "after a batch that put and deleted it")
	k.present("a", q.from(originB+"/y"))
	k.noTag("a", "gone", "after a batch that set and deleted it")
	k.wantTag("a", "moved", second)
	if b.Tags[1].Err != nil || b.Tags[2].Err != nil {
		failf("a tag that was set twice: %v, %v", b.Tags[1].Err, b.Tags[2].Err)
	}
	is(b.Tags[3].Err, store.ErrStale, "a tag that the same batch has moved to a later answer")
	k.wantRecords("jobs", map[string]string{"moved": "second", "of-the-batch": "two"})
}

// batchHere puts what the batches of changes change, and batchUntouched finds it as it was.
func (k *kit) batchHere() (here piece, v1 store.Tag) {
	here, v1 = manifest(1, originA+"/x"), tag("one", originA+"/x", noon(1))
	k.put("a", here)
	k.setTag("a", "v1", v1)
	k.putRecord("jobs", "here", "as it was")
	return here, v1
}

// changes is a batch that changes what batchHere has put, and brings more.
func changes(here, brings piece) *store.Batch {
	return &store.Batch{
		Content: pieces("a", brings),
		Tags: []store.TagChange{
			set("a", "v1", tag("two", originA+"/x", noon(2)), record("jobs", "v1", "")),
			set("a", "v2", tag("two", originA+"/x", noon(2))),
		},
		Deletions: []store.Deletion{{Repo: "a", Digest: here.Digest}},
		Records:   []store.RecordChange{noRecord("jobs", "here"), record("jobs", "more", "")},
	}
}

func (k *kit) batchUntouched(here piece, v1 store.Tag, brings piece, when string) {
	k.present("a", here)
	k.absent("a", brings, when)
	k.wantTag("a", "v1", v1)
	k.noTag("a", "v2", when)
	k.wantRecords("jobs", map[string]string{"here": "as it was"})
}

func batchWrong(k *kit) {
	batcher := need[store.Batcher](k)
	here, v1 := k.batchHere()
	brings := manifest(2, originA+"/x")
	short := brings
	short.Size--
	good := set("b", "v1", v1)
	wrong := func(what string, want error, spoil func(b *store.Batch)) {
		b := changes(here, brings)
		spoil(b)
		err := batcher.Apply(k.ctx, b)
		if err == nil {
			failf("a batch with %s was accepted", what)
		}
		if want != nil {
			is(err, want, "a batch with %s", what)
		}
		k.batchUntouched(here, v1, brings, "after a batch with "+what)
	}
	content := func(what string, want error, p store.Piece) {
		wrong(what, want, func(b *store.Batch) { b.Content = append(b.Content, p) })
	}
	tagged := func(what string, t store.TagChange) {
		wrong(what, nil, func(b *store.Batch) { b.Tags = append(b.Tags, t) })
	}
	deletion := func(what string, d store.Deletion) {
		wrong(what, nil, func(b *store.Batch) { b.Deletions = append(b.Deletions, d) })
	}
	bad := brings
	bad.Digest = "sha256:short"
	content("content without a digest", nil, bad.in("a"))
	content("content in what is no repository", nil, brings.in("../a"))
	content("content of another size", store.ErrSize, short.in("a"))
	bad = brings
	bad.Subject = "nothing"
	content("content of a wrong subject", nil, bad.in("a"))
	tagged("a tag that is none", set("a", "a/b", v1))
	tagged("a tag of what is no repository", set("A", "v1", v1))
	tagged("a tag that points to no digest", set("a", "v3", store.Tag{Source: originA + "/x"}))
	good.Records = []store.RecordChange{record("jobs", "../a", "")}
	tagged("a wrong key of a record of a tag", good)
	deletion("a deletion of no digest", store.Deletion{Repo: "a"})
	deletion("a deletion of no tag", store.Deletion{Repo: "a", Tag: "a/b"})
	deletion("a deletion if a tag points to no digest", store.Deletion{Repo: "a", Tag: "v1", Digest: "nothing"})
	deletion("a deletion in what is no repository", store.Deletion{Repo: "a//b", Digest: here.Digest})
	wrong("a wrong kind of a record", nil, func(b *store.Batch) { b.Records = append(b.Records, record(".", "a", "")) })
	wrong("a wrong key to be deleted", nil, func(b *store.Batch) { b.Records = append(b.Records, noRecord("jobs", "")) })
}

func batchContext(k *kit) {
	batcher := need[store.Batcher](k)
	here, v1 := k.batchHere()
	brings := manifest(2, originA+"/x")
	ctx, cancel := context.WithCancel(k.ctx)
	cancel()
	is(batcher.Apply(ctx, changes(here, brings)), context.Canceled, "Apply after the end of its context")
	k.batchUntouched(here, v1, brings, "after a batch whose context had ended")
	is(batcher.Apply(ctx, new(store.Batch)), context.Canceled, "Apply of nothing after the end of its context")
	k.apply(changes(here, brings)) // the same batch otherwise changes all of it
	k.absent("a", here, "after the batch")
	k.present("a", brings)
	k.wantTag("a", "v1", tag("two", originA+"/x", noon(2)))
	k.wantRecords("jobs", map[string]string{"more": "", "v1": ""})
}

// batchSteps is how many batches follow each other in batchAsOne.
const batchSteps = 25

func batchAsOne(k *kit) {
	need[store.Batcher](k)
	steps := make([]piece, batchSteps)
	values := make([]store.Tag, batchSteps)
	for i := range steps {
		steps[i] = manifest(uint64(i), originA+"/x")
		values[i] = tag(strings.Repeat("x", i+1), originA+"/x", noon(time.Duration(i)))
		values[i].Digest = steps[i].Digest
	}
	apply := func(i int) {
		k.apply(&store.Batch{
			Content: pieces("a", steps[i]),
			Tags:    []store.TagChange{set("a", "v1", values[i], record("events", fmt.Sprint("e", i), ""))},
			Records: []store.RecordChange{record("jobs", "last", strings.Repeat("x", i))},
		})
	}
	apply(0)
	done := make(chan struct{})
	k.together(4, func(reader int) {
		if reader == 0 {
			defer close(done)
			for i := 1; i < batchSteps; i++ {
				apply(i)
			}
			return
		}
		for n := 0; n < batchSteps-1; {
			n = k.oneStep(steps)
			select {
			case <-done:
				n = batchSteps
			default:
			}
		}
	})
	k.wantTag("a", "v1", values[batchSteps-1])
}

// oneStep compares what there is of the batches of batchAsOne, and returns how many were
// there.
func (k *kit) oneStep(steps []piece) int {
	last, err := need[store.Records](k).Record(k.ctx, "jobs", "last")
	ok(err, "Record")
	at := func() int {
		t, err := k.s.Tag(k.ctx, "a", "v1")
		ok(err, "Tag")
		return int(t.Size) - 1
	}
	n := at()
	if n < len(last) {
		failf("the record of batch %d was there before its tag, which was that of batch %d", len(last), n)
	}
	_, err = k.s.Stat(k.ctx, "a", steps[n].Digest)
	ok(err, "the tag of batch %d was there before its manifest", n)
	_, err = need[store.Records](k).Record(k.ctx, "events", fmt.Sprint("e", n))
	ok(err, "the tag of batch %d was there before the record of the tag", n)
	if last, err = need[store.Records](k).Record(k.ctx, "jobs", "last"); err != nil || len(last) < n {
		failf("the tag of batch %d was there before its record, %d, %v", n, len(last), err)
	}
	if next := n + 1; next < len(steps) {
		if _, err := k.s.Stat(k.ctx, "a", steps[next].Digest); err == nil && at() < next {
			failf("the manifest of batch %d was there before its tag", next)
		}
	}
	return n
}

func batchTagRecords(k *kit) {
	need[store.Batcher](k)
	newest := tag("two", originA+"/x", noon(2))
	k.putRecord("jobs", "old", "here")
	step := func(what string, t store.Tag, changed bool) {
		k.apply(&store.Batch{Tags: []store.TagChange{set("a", "v1", t, record("jobs", "new", what), noRecord("jobs", "old"))}})
		if changed {
			k.wantRecords("jobs", map[string]string{"new": what})
		} else {
			k.wantRecords("jobs", map[string]string{"new": "before", "old": "before"})
		}
		k.putRecord("jobs", "new", "before")
		k.putRecord("jobs", "old", "before")
	}
	step("a tag that was not there", newest, true)
	step("the same value again", newest, false)
	step("an earlier answer", tag("one", originA+"/x", noon(1)), false)
	step("an earlier answer with the same digest", tag("two", originA+"/x", noon(1)), false)
	step("a later answer with the same digest", tag("two", originA+"/x", noon(3)), true)
	step("a later answer", tag("three", originA+"/x", noon(4)), true)
	step("an earlier answer of another source", tag("three", originA+"/y", noon(1)), true)
}

func batchStale(k *kit) {
	need[store.Batcher](k)
	newest, older := tag("two", originA+"/x", noon(2)), tag("one", originA+"/x", noon(1))
	k.setTag("a", "v1", newest)
	p := manifest(1, originA+"/x")
	k.put("a", manifest(2, originA+"/x"))
	b := &store.Batch{
		Content:   pieces("a", p),
		Tags:      []store.TagChange{set("a", "v0", older), set("a", "v1", older), set("b", "v1", older, record("jobs", "b", ""))},
		Deletions: []store.Deletion{{Repo: "a", Digest: manifest(2, "").Digest}},
		Records:   []store.RecordChange{record("jobs", "a", "")},
	}
	b.Tags[0].Err = store.ErrStale
	k.apply(b)
	if b.Tags[0].Err != nil || b.Tags[2].Err != nil {
		failf("Err of tags that were set: %v, %v", b.Tags[0].Err, b.Tags[2].Err)
	}
	is(b.Tags[1].Err, store.ErrStale, "Err of a stale tag")
	k.present("a", p)
	k.wantTag("a", "v0", older)
	k.wantTag("a", "v1", newest)
	k.wantTag("b", "v1", older)
	k.absent("a", manifest(2, ""), "after a batch that deletes it")
	k.wantRecords("jobs", map[string]string{"a": "", "b": ""})
}

func batchDeletions(k *kit) {
	need[store.Batcher](k)
	p, q := manifest(1, originA+"/x"), blob(2, 40<<10, originA+"/x")
	one := tag("one", originA+"/x", noon(1))
	for _, repo := range []string{"a", "b"} {
		k.put(repo, p)
		k.put(repo, q)
		for _, name := range []string{"v1", "v2", "v3", "v4"} {
			k.setTag(repo, name, one)
		}
	}
	k.apply(&store.Batch{Deletions: []store.Deletion{
		{Repo: "a", Digest: p.Digest}, {Repo: "a", Digest: q.Digest}, {Repo: "a", Digest: blob(3, 1, "").Digest},
		{Repo: "a", Tag: "v1"}, {Repo: "a", Tag: "v2", Digest: one.Digest}, {Repo: "a", Tag: "v3", Digest: p.Digest},
		{Repo: "a", Tag: "none"}, {Repo: "none", Tag: "v1", Digest: p.Digest}, {Repo: "none", Digest: p.Digest},
	}})
	k.absent("a", p, "after a batch that deletes it")
	k.absent("a", q, "after a batch that deletes it")
	k.noTag("a", "v1", "after a batch that deletes it")
	k.noTag("a", "v2", "after a batch that deletes it where it points")
	k.wantTag("a", "v3", one)
	k.wantTag("a", "v4", one)
	k.present("b", p)
	k.present("b", q)
	k.wantTag("b", "v1", one)
	k.apply(&store.Batch{Content: pieces("a", p), Tags: []store.TagChange{set("a", "v1", tag("one", originA+"/x", noon(0)))}})
	k.present("a", p)
	k.wantTag("a", "v1", tag("one", originA+"/x", noon(0)))
}

func batchRecords(k *kit) {
	need[store.Batcher](k)
	k.putRecord("jobs", "gone", "here")
	k.putRecord("jobs", "replaced", "longer than what replaces it")
	k.putRecord("outbox", "gone", "here")
	k.apply(&store.Batch{Records: []store.RecordChange{
		noRecord("jobs", "gone"), noRecord("jobs", "never"), record("jobs", "replaced", "short"), record("jobs", "empty", ""), record("events", "a", "\x00\n"),
	}})
	k.wantRecords("jobs", map[string]string{"replaced": "short", "empty": ""})
	k.wantRecords("outbox", map[string]string{"gone": "here"})
	k.wantRecords("events", map[string]string{"a": "\x00\n"})
}

func batchNotKept(k *kit) {
	need[store.Batcher](k)
	p, mine := manifest(1, originA+"/x"), manifest(1, originA+"/x")
	b := &store.Batch{Content: pieces("a", mine), Records: []store.RecordChange{record("jobs", "a", "data")}}
	k.apply(b)
	clear(mine.data)
	clear(b.Records[0].Data)
	mine.Annotations["org.example"] = "changed"
	k.present("a", p)
	k.wantRecords("jobs", map[string]string{"a": "data"})
}

func batchEmpty(k *kit) {
	here, v1 := k.batchHere()
	k.apply(new(store.Batch))
	k.batchUntouched(here, v1, manifest(2, ""), "after an empty batch")
}
