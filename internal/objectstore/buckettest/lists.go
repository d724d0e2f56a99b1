package buckettest

import (
	"fmt"
	"slices"

	"github.com/pullthrough/pullthrough/internal/objectstore"
)

func listChecks() []Check {
	return []Check{
		{"list/order", "List yields all keys with a prefix and no other, in the order of their bytes.", law(listOrder)},
		{"list/after", "List with After leaves out no key behind it, and yields in order.", law(listAfter)},
		{"list/delimiter", "List with a delimiter yields each group once, in order.", law(listDelimiter)},
		{"list/pages", "Lists are whole and in order, however long they are, and may be left at any time.", law(listPages)},
	}
}

// similar are keys whose order is that of their bytes and not that of folders.
var similar = []string{
	"l/a!/m/1", "l/a!/m/2", "l/a!/t/X", "l/a!/t/_", "l/a!/t/x",
	"l/a-b!/m/1", "l/a.b!/m/1",
	"l/a/0!/m/1", "l/a/b!/m/1", "l/a/b/c!/m/1",
	"l/a0!/m/1", "l/a_b!/m/1", "l/b!/t/1",
}

func (k *kit) putAll(keys []string) {
	k.together(4, func(i int) {
		for ; i < len(keys); i += 4 {
			k.put(keys[i], keys[i])
		}
	})
}

func listOrder(k *kit) {
	k.wantList(objectstore.Range{Prefix: "l/"})
	k.putAll(similar)
	k.putAll([]string{"k/a", "l-/a", "l0/a", "m/a"})
	k.wantList(objectstore.Range{Prefix: "l/"}, similar...)
	k.wantList(objectstore.Range{Prefix: "l/a!/"}, similar[:5]...)
	k.wantList(objectstore.Range{Prefix: "l/a!/t/"}, similar[2:5]...)
	k.wantList(objectstore.Range{Prefix: "l/a/"}, similar[7:10]...)
	k.wantList(objectstore.Range{Prefix: "l/none/"})
}

func listAfter(k *kit) {
	k.putAll(similar)
	for i, after := range similar {
		got := k.list(objectstore.Range{Prefix: "l/", After: after})
		if !slices.IsSorted(got) {
			failf("after %s: %q is not in order", after, got)
		}
		got = slices.DeleteFunc(got, func(key string) bool { return key <= after })
		if !slices.Equal(got, similar[i+1:]) {
			failf("after %s: %q, want %q", after, got, similar[i+1:])
		}
	}
	got := k.list(objectstore.Range{Prefix: "l/", After: "l/a-a"}) // no key
	got = slices.DeleteFunc(got, func(key string) bool { return key <= "l/a-a" })
	if !slices.Equal(got, similar[5:]) {
		failf("after what is no key: %q, want %q", got, similar[5:])
	}
}

func listDelimiter(k *kit) {
	k.putAll(similar)
	want := []string{"l/a!", "l/a-b!", "l/a.b!", "l/a/0!", "l/a/b!", "l/a/b/c!", "l/a0!", "l/a_b!", "l/b!"}
	k.wantList(objectstore.Range{Prefix: "l/", Delimiter: "!"}, want...)
	for i, after := range want {
		got := k.list(objectstore.Range{Prefix: "l/", Delimiter: "!", After: after})
		got = slices.DeleteFunc(got, func(key string) bool { return key <= after })
		if !slices.Equal(got, want[i+1:]) {
			failf("after %s: %q, want %q", after, got, want[i+1:])
		}
	}
}

func listPages(k *kit) {
	const n = 1100 // servers have pages of 1,000
	want := make([]string, n)
	for i := range want {
		want[i] = fmt.Sprintf("p/%05d!/x", i)
	}
	k.together(8, func(i int) {
		for ; i < n; i += 8 {
			k.put(want[i], "")
		}
	})
	if got := k.below("p/"); !slices.Equal(got, want) {
		failf("of %d keys %d are listed, in order: %v", n, len(got), slices.IsSorted(got))
	}
	got := k.list(objectstore.Range{Prefix: "p/", Delimiter: "!"})
	if len(got) != n || !slices.IsSorted(got) {
		failf("of %d groups %d are listed, in order: %v", n, len(got), slices.IsSorted(got))
	}
	i := 0
	for key, err := range k.b.List(k.ctx, objectstore.Range{Prefix: "p/"}) {
		ok(err, "List")
		if key != want[i] {
			failf("key %d is %s, want %s", i, key, want[i])
		}
		if i++; i == n-50 {
			break // must be allowed
		}
	}
}
