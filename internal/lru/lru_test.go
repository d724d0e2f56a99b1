package lru

import (
	"fmt"
	"sync"
	"testing"
)

func TestForgetsTheLeastRecentlyUsed(t *testing.T) {
	c := New[int, string](shardCount * 2) // two entries in each shard
	for i := range 1000 {
		c.Put(i, fmt.Sprint(i), 1)
		if v, ok := c.Get(i); !ok || v != fmt.Sprint(i) {
			t.Fatalf("Get(%d) right after Put = %q, %v", i, v, ok)
		}
	}
	if n := c.Len(); n > shardCount*2 {
		t.Fatalf("%d entries, want at most %d", n, shardCount*2)
	}
	if _, ok := c.Get(0); ok {
		t.Fatal("the oldest entry is still there")
	}
}

func TestUseKeeps(t *testing.T) {
	c := New[int, int](shardCount * 2)
	s := c.shard(0)
	same := []int{0}
	for i := 1; len(same) < 3; i++ {
		if c.shard(i) == s {
			same = append(same, i)
		}
	}
	c.Put(same[0], 1, 1)
	c.Put(same[1], 1, 1)
	c.Get(same[0])
	c.Put(same[2], 1, 1)
	if _, ok := c.Get(same[0]); !ok {
		t.Error("a used entry was forgotten")
	}
	if _, ok := c.Get(same[1]); ok {
		t.Error("the unused entry was kept")
	}
}

func TestCost(t *testing.T) {
	c := New[string, int](shardCount * 10)
	c.Put("large", 1, 11)
	if _, ok := c.Get("large"); ok {
		t.Error("an entry larger than its shard was kept")
	}
	c.Put("a", 1, 10)
	c.Put("a", 2, 3)
	if v, _ := c.Get("a"); v != 2 {
		t.Errorf("a = %d, want 2", v)
	}
	if got := c.shard("a").cost; got != 3 {
		t.Errorf("cost %d after a replacement, want 3", got)
	}
	c.Delete("a")
	if got := c.shard("a").cost; got != 0 || c.Len() != 0 {
		t.Errorf("cost %d, %d entries after Delete", got, c.Len())
	}
}

func TestConcurrent(t *testing.T) {
	c := New[int, int](100)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 2000 {
				c.Put(i%97, g, 1)
				c.Get(i % 89)
				if i%7 == 0 {
					c.Delete(i % 83)
				}
			}
		})
	}
	wg.Wait()
}
