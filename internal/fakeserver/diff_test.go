package fakeserver_test

import (
	"testing"

	"github.com/pullthrough/pullthrough/internal/fakeserver"
)

func TestDiff(t *testing.T) {
	for _, c := range []struct {
		got, want []string
		diff      string
	}{
		{nil, nil, ""},
		{[]string{"a", "b", "a"}, []string{"a", "a", "b"}, ""},
		{[]string{"a", "b", "a"}, []string{"c", "a"}, "\n\t  a\n\t+ b\n\t+ a\n\t- c"},
		{nil, []string{"a", "a"}, "\n\t- a\n\t- a"},
	} {
		if got := fakeserver.Diff(c.got, c.want); got != c.diff {
			t.Errorf("%q and %q: %s", c.got, c.want, got)
		}
	}
	var c fakeserver.Complaints
	if !c.Want("x", []string{"a"}, []string{"a"}) || c.Want("x", nil, []string{"a"}) || len(c.All()) != 1 {
		t.Errorf("%q", c.All())
	}
}
