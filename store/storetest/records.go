package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/pullthrough/pullthrough/store"
)

func recordChecks() []Check {
	return []Check{
		{"records/round trip", "A record reads back byte for byte, and a second write replaces it.", law(recordRoundTrip)},
		{"records/apart", "Records of different kinds are different, and so are those of keys that differ only in case.", law(recordsApart)},
		{"records/delete", "A deleted record does not exist; deleting a record that does not exist is no error.", law(recordDelete)},
		{"records/order", "The last write or deletion of a key counts, whatever happens to other keys at the same time.", law(recordOrder)},
		{"records/whole", "Reading a record while it is written returns one write as a whole.", law(recordWhole)},
		{"records/names", "Keys and kinds that do not follow the rules are refused.", law(recordNames)},
	}
}

func (k *kit) records(kind string) map[string]string {
	all := make(map[string]string)
	r := need[store.Records](k)
	for key, err := range r.RecordKeys(k.ctx, kind) {
		ok(err, "RecordKeys of %s", kind)
		if _, twice := all[key]; twice {
			failf("the record %s was yielded twice", key)
		}
		data, err := r.Record(k.ctx, kind, key)
		ok(err, "Record %s/%s", kind, key)
		all[key] = string(data)
	}
	return all
}

func (k *kit) putRecord(kind, key, data string) {
	ok(need[store.Records](k).PutRecord(k.ctx, kind, key, []byte(data)), "PutRecord %s/%s", kind, key)
}

func (k *kit) wantRecords(kind string, want map[string]string) {
	got := k.records(kind)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		failf("records of %s: got %q, want %q", kind, got, want)
	}
}

func recordRoundTrip(k *kit) {
	k.wantRecords("jobs", map[string]string{})
	long := strings.Repeat("K", 128)
	want := map[string]string{
		"a": "one\n", "empty": "", "zero": "\x00\n\xff", long: `{"x":1}`, "big": strings.Repeat("0123456789", 20000), "_-.": "\n",
	}
	for key, data := range want {
		k.putRecord("jobs", key, "before, and longer than what comes after")
		k.putRecord("jobs", key, data)
	}
	k.wantRecords("jobs", want)
	mine := []byte("mine")
	ok(need[store.Records](k).PutRecord(k.ctx, "jobs", "a", mine), "PutRecord")
	copy(mine, "your")
	want["a"] = "mine"
	k.wantRecords("jobs", want)
	for range need[store.Records](k).RecordKeys(k.ctx, "jobs") {
		break // must be allowed
	}
	got, err := need[store.Records](k).Record(k.ctx, "jobs", "a")
	ok(err, "Record")
	copy(got, "your")
	k.wantRecords("jobs", want)
}

func recordsApart(k *kit) {
	k.putRecord("jobs", "a", "1")
	k.putRecord("jobs", "A", "2")
	k.putRecord("Jobs", "a", "3")
	k.putRecord("outbox", "a", "4")
	k.wantRecords("jobs", map[string]string{"a": "1", "A": "2"})
	k.wantRecords("Jobs", map[string]string{"a": "3"})
	k.wantRecords("outbox", map[string]string{"a": "4"})
}

func recordDelete(k *kit) {
	r := need[store.Records](k)
	ok(r.DeleteRecord(k.ctx, "jobs", "a"), "DeleteRecord of what is not there")
	k.putRecord("jobs", "a", "1")
	k.putRecord("jobs", "b", "2")
	k.putRecord("outbox", "a", "3")
	ok(r.DeleteRecord(k.ctx, "jobs", "a"), "DeleteRecord")
	ok(r.DeleteRecord(k.ctx, "jobs", "a"), "DeleteRecord again")
	k.wantRecords("jobs", map[string]string{"b": "2"})
	k.wantRecords("outbox", map[string]string{"a": "3"})
	_, err := r.Record(k.ctx, "jobs", "a")
	is(err, store.ErrNotFound, "Record of what was deleted")
	_, err = r.Record(k.ctx, "nothing", "a")
	is(err, store.ErrNotFound, "Record of a kind that has none")
}

func recordOrder(k *kit) {
	r := need[store.Records](k)
	const n = 12
	k.together(n, func(i int) {
		key := fmt.Sprint("key", i)
		for j := range 8 {
			k.putRecord("jobs", key, fmt.Sprint(j))
			if j%3 == 0 {
				ok(r.DeleteRecord(k.ctx, "jobs", key), "DeleteRecord")
			}
		}
		if i%2 == 0 {
			ok(r.DeleteRecord(k.ctx, "jobs", key), "DeleteRecord")
		}
	})
	want := make(map[string]string)
	for i := 1; i < n; i += 2 {
		want[fmt.Sprint("key", i)] = "7"
	}
	k.wantRecords("jobs", want)
}

func recordWhole(k *kit) {
	whole := func(i int) []byte { return bytes.Repeat([]byte{byte('a' + i)}, 1000*(i+1)) }
	k.putRecord("jobs", "a", string(whole(0)))
	k.together(8, func(i int) {
		for range 10 {
			k.putRecord("jobs", "a", string(whole(i)))
			got := k.records("jobs")["a"]
			if got == "" || got != string(whole(int(got[0]-'a'))) {
				failf("a mixture of two writes, or nothing: %d bytes", len(got))
			}
		}
	})
}

func recordNames(k *kit) {
	r := need[store.Records](k)
	for _, bad := range []string{"", ".", "..", ".a", "a/b", "../a", "a b", "a~", strings.Repeat("a", 129)} {
		if r.PutRecord(k.ctx, "jobs", bad, nil) == nil {
			failf("the key %q was accepted", bad)
		}
		if _, err := r.Record(k.ctx, "jobs", bad); err == nil || errors.Is(err, store.ErrNotFound) {
			failf("the key %q was looked up: %v", bad, err)
		}
		if r.PutRecord(k.ctx, bad, "a", nil) == nil {
			failf("the kind %q was accepted", bad)
		}
	}
}
