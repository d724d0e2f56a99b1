package buckettest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/pullthrough/pullthrough/internal/objectstore"
	"github.com/pullthrough/pullthrough/store"
)

func objectChecks() []Check {
	return []Check{
		{"object/round trip", "An object reads back byte for byte, and Head and Get tell the same size and ETag.", law(roundTrip)},
		{"object/offset", "Get reads from an offset on, and tells the size of the whole.", law(offsets)},
		{"object/missing", "An object that is not there is ErrNotFound to Head and Get, and no error to Delete.", law(missing)},
		{"object/delete", "What was deleted is gone, and can be written with IfAbsent.", law(deleted)},
		{"object/keys", "Keys are told apart by every byte, may be MaxKey bytes long, and one is no folder of another.", law(keys)},
		{"object/errors", "Errors name the bucket and the key.", law(named)},
		{"object/context", "Every method returns the error of its context after its end.", law(ended)},
		{"object/body and context", "A body ends with an error when the context of Get does.", law(bodyEnds)},
		{"put/absent", "Put with IfAbsent returns ErrChanged if there is an object, and leaves it as it is.", law(putAbsent)},
		{"put/match", "Put with an ETag returns ErrChanged unless the object has that one.", law(putMatch)},
		{"put/race of IfAbsent", "Of several Puts with IfAbsent at once, one succeeds, the others return ErrChanged, and its bytes are those that are there.", law(racePutAbsent)},
		{"put/race of ETags", "Counters that are read and put with their ETag lose no step.", law(raceCounter)},
	}
}

func notFound(err error, format string, args ...any) {
	is(err, store.ErrNotFound, format, args...)
	if errors.Is(err, objectstore.ErrChanged) {
		failf("%s: is ErrChanged, too: %v", fmt.Sprintf(format, args...), err)
	}
}

func changed(err error, format string, args ...any) {
	is(err, objectstore.ErrChanged, format, args...)
	if errors.Is(err, store.ErrNotFound) {
		failf("%s: is ErrNotFound, too: %v", fmt.Sprintf(format, args...), err)
	}
}

func roundTrip(k *kit) {
	for i, n := range []int{0, 1, 2000, 300 << 10} {
		key := fmt.Sprintf("a/b/%d", n)
		k.put(key, random(i, n))
		k.has(key, random(i, n), "after Put")
	}
	before := k.etag("a/b/1")
	k.put("a/b/1", "other bytes")
	k.has("a/b/1", "other bytes", "after the second Put")
	if k.etag("a/b/1") == before {
		failf("other bytes have the same ETag %s", before)
	}
	data := []byte("mine")
	ok(k.b.Put(k.ctx, "a/mine", data, objectstore.Always), "Put")
	copy(data, "yours")
	k.has("a/mine", "mine", "after the caller has used its bytes for something else")
}

func offsets(k *kit) {
	data := random(1, 100<<10)
	k.put("a", data)
	whole, _ := k.get("a")
	for _, offset := range []int{0, 1, 50000, len(data) - 1} {
		o, body, err := k.b.Get(k.ctx, "a", int64(offset))
		ok(err, "Get from %d on", offset)
		got, err := io.ReadAll(body)
		ok(err, "read")
		ok(body.Close(), "Close")
		if string(got) != data[offset:] {
			failf("from %d on: %s, want %s", offset, short(string(got)), short(data[offset:]))
		}
		if o != whole {
			failf("from %d on: %+v, want %+v", offset, o, whole)
		}
	}
	if _, body, err := k.b.Get(k.ctx, "none", 5); err == nil {
		body.Close()
		failf("a part of what is not there can be read")
	} else {
		notFound(err, "Get of a part of what is not there")
	}
}

func missing(k *kit) {
	k.put("a/b/c", "")
	for _, key := range []string{"none", "a", "a/b", "a/b/c/d", "a/b/none"} {
		k.lacks(key, "never written")
		ok(k.b.Delete(k.ctx, key), "Delete of %s", key)
	}
	k.has("a/b/c", "", "after its folders were deleted")
}

func deleted(k *kit) {
	k.put("a/b", "1")
	k.put("a/c", "2")
	ok(k.b.Delete(k.ctx, "a/b"), "Delete")
	k.lacks("a/b", "deleted")
	k.has("a/c", "2", "beside one that was deleted")
	k.wantList(objectstore.Range{Prefix: "a/"}, "a/c")
	ok(k.b.Delete(k.ctx, "a/b"), "Delete again")
	ok(k.b.Put(k.ctx, "a/b", []byte("3"), objectstore.IfAbsent), "Put with IfAbsent")
	k.has("a/b", "3", "written again")
}

func keys(k *kit) {
	long := strings.Repeat(strings.Repeat("k", 199)+"/", objectstore.MaxKey/200)
	long += strings.Repeat("z", objectstore.MaxKey-len(long))
	all := []string{"x/a", "x/A", "x/a-b", "x/a.b", "x/a_b", "x/a!/b", "x/a/!b", "x/_a", "x/-a", "x/a--b/c__d/e.f", long}
	for _, key := range all {
		ok(k.b.Put(k.ctx, key, []byte(key), objectstore.IfAbsent), "Put of %s", key)
		if key == "x/a" { // a later one has it as its folder
			ok(k.b.Delete(k.ctx, key), "Delete of %s", key)
		}
	}
	for _, key := range all[1:] {
		k.has(key, key, "one of several similar keys")
	}
	k.lacks("x/a", "deleted")
	k.lacks("y/a", "never written")
	k.wantList(objectstore.Range{Prefix: "k"}, long)
}

func named(k *kit) {
	_, err := k.b.Head(k.ctx, "some/key")
	k.names(err, "Head")
	_, _, err = k.b.Get(k.ctx, "some/key", 0)
	k.names(err, "Get")
	k.names(k.b.Put(k.ctx, "some/key", []byte("1"), objectstore.IfMatch(`"none"`)), "Put")
}

func (k *kit) names(err error, what string) {
	if err == nil {
		failf("%s of what is not there succeeds", what)
	}
	for _, want := range []string{k.b.String(), "some/key"} {
		if !strings.Contains(err.Error(), want) {
			failf("the error of %s does not name %s: %w", what, want, err)
		}
	}
}

func ended(k *kit) {
	k.put("a", "1")
	ctx, cancel := context.WithCancel(k.ctx)
	u, err := k.b.Begin(ctx, "b")
	ok(err, "Begin")
	defer u.Abort(k.ctx)
	cancel()
	_, err = k.b.Head(ctx, "a")
	is(err, context.Canceled, "Head")
	_, _, err = k.b.Get(ctx, "a", 0)
	is(err, context.Canceled, "Get")
	is(k.b.Put(ctx, "a", nil, objectstore.Always), context.Canceled, "Put")
	is(k.b.Delete(ctx, "a"), context.Canceled, "Delete")
	_, err = k.b.Begin(ctx, "a")
	is(err, context.Canceled, "Begin")
	is(u.Part(ctx, []byte("1")), context.Canceled, "Part")
	is(u.Complete(ctx, objectstore.Always), context.Canceled, "Complete")
	err = nil
	for _, e := range k.b.List(ctx, objectstore.Range{Prefix: "a"}) {
		err = e
	}
	is(err, context.Canceled, "List")
	k.has("a", "1", "after calls whose context had ended")
	ok(u.Part(k.ctx, []byte("2")), "Part after the end of Begin's context")
	ok(u.Complete(k.ctx, objectstore.Always), "Complete after the end of Begin's context")
	k.has("b", "2", "after Complete")
}

func bodyEnds(k *kit) {
	const n = 32 << 20 // more than lies in sockets
	k.put("a", random(1, n))
	ctx, cancel := context.WithCancel(k.ctx)
	defer cancel()
	_, body, err := k.b.Get(ctx, "a", 0)
	ok(err, "Get")
	defer body.Close()
	_, err = io.CopyN(io.Discard, body, 1000)
	ok(err, "read")
	cancel()
	if _, err := io.Copy(io.Discard, body); err == nil {
		failf("all %d bytes can be read after the context has ended", n)
	}
}

func putAbsent(k *kit) {
	put := func() error { return k.b.Put(k.ctx, "a", []byte("2"), objectstore.IfAbsent) }
	k.put("a", "1")
	changed(put(), "Put over an object")
	k.has("a", "1", "after ErrChanged")
	ok(k.b.Delete(k.ctx, "a"), "Delete")
	ok(put(), "Put after Delete")
	k.has("a", "2", "after Put")
	changed(put(), "Put of the same again")
}

func putMatch(k *kit) {
	changed(k.b.Put(k.ctx, "a", []byte("0"), objectstore.IfMatch(`"0123456789abcdef0123456789abcdef"`)), "Put with an ETag where nothing is")
	k.lacks("a", "after ErrChanged")
	k.put("a", "1")
	first := k.etag("a")
	ok(k.b.Put(k.ctx, "a", []byte("2"), first), "Put with the ETag of the object")
	k.has("a", "2", "after Put")
	changed(k.b.Put(k.ctx, "a", []byte("3"), first), "Put with the ETag of an older version")
	k.has("a", "2", "after ErrChanged")
	o, _ := k.get("a")
	ok(k.b.Put(k.ctx, "a", []byte("4"), objectstore.IfMatch(o.ETag)), "Put with the ETag of Get")
	last := k.etag("a")
	ok(k.b.Delete(k.ctx, "a"), "Delete")
	changed(k.b.Put(k.ctx, "a", []byte("5"), last), "Put with the ETag of what was deleted")
	k.lacks("a", "after ErrChanged")
}

func racePutAbsent(k *kit) {
	for round := range 10 {
		key := fmt.Sprintf("race/%d", round)
		var winners, winner atomic.Int64
		k.together(8, func(i int) {
			err := k.b.Put(k.ctx, key, []byte(strconv.Itoa(i)), objectstore.IfAbsent)
			if err == nil {
				winners.Add(1)
				winner.Store(int64(i))
				return
			}
			changed(err, "Put that was not the first")
		})
		if winners.Load() != 1 {
			failf("round %d: %d of 8 Puts with IfAbsent have succeeded", round, winners.Load())
		}
		k.has(key, strconv.FormatInt(winner.Load(), 10), "after a race")
	}
}

func raceCounter(k *kit) {
	const writers, steps = 5, 5
	k.put("counter", "0")
	k.together(writers, func(int) {
		for range steps {
			for {
				o, value := k.get("counter")
				n, err := strconv.Atoi(value)
				ok(err, "the counter has %q", value)
				err = k.b.Put(k.ctx, "counter", []byte(strconv.Itoa(n+1)), objectstore.IfMatch(o.ETag))
				if err == nil {
					break
				}
				changed(err, "Put that was not the first")
			}
		}
	})
	k.has("counter", strconv.Itoa(writers*steps), "after all steps")
}
