package lru

import (
	"maps"
	"testing"
)

func TestAll(t *testing.T) {
	c := New[int, int](64)
	want := map[int]int{}
	for i := range 40 {
		c.Put(i, i*i, 1)
	}
	for i := range 40 {
		if v, ok := c.Get(i); ok {
			want[i] = v
		}
	}
	got := map[int]int{}
	for k, v := range c.All() {
		got[k] = v
		c.Delete(k) // no lock is held
	}
	if len(want) == 0 || !maps.Equal(got, want) || !c.Empty() {
		t.Errorf("%v, want %v; %d are left", got, want, c.Len())
	}
	c.Put(1, 1, 1)
	c.Put(2, 2, 1)
	n := 0
	for range c.All() {
		n++
		break
	}
	if n != 1 {
		t.Error(n)
	}
}
