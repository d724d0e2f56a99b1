package inbound

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestRates: what is used comes back in time, and never more than that.
func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rates[string]{Rate{10, time.Minute}, recent[string, bucket]{most: 8}}
		for round := range 3 {
			for i := range 10 {
				if wait := r.take("a"); wait != 0 {
					t.Fatalf("round %d: %d are too many", round, i)
				}
			}
			if wait := r.take("a"); wait != 6*time.Second {
				t.Errorf("round %d: wait %v, want 6 s", round, wait)
			}
			if wait := r.take("b"); round == 0 && wait != 0 {
				t.Error("another client waits, too")
			}
			time.Sleep(6 * time.Second)
			if wait := r.take("a"); wait != 0 {
				t.Errorf("round %d: after 6 s there is none", round)
			}
			r.give("a")
			if wait := r.take("a"); wait != 0 {
				t.Errorf("round %d: what was given back is not there", round)
			}
			time.Sleep(time.Hour)
		}
		unlimited := rates[string]{}
		for range 1000 {
			if unlimited.take("a") != 0 {
				t.Fatal("no limit limits")
			}
		}
	})
}

// TestRecentIsBounded: the last ones that were used are remembered, and no more than twice as many.
func TestRecentIsBounded(t *testing.T) {
	r := recent[int, int]{most: 100}
	r.put(-1, 7)
	for i := range 10000 {
		r.put(i, i)
		if n := len(r.new) + len(r.old); n > 200 {
			t.Fatalf("%d are remembered", n)
		}
		if v, ok := r.get(-1); !ok || v != 7 {
			t.Fatalf("what is used is forgotten after %d", i)
		}
	}
	for i := 9950; i < 10000; i++ {
		if v, ok := r.get(i); !ok || v != i {
			t.Errorf("%d is forgotten", i)
		}
	}
	if _, ok := r.get(5000); ok {
		t.Error("an old one is remembered")
	}
}

// TestGoodLoginsEnd: a good login is remembered for a time, and only for its password and hash.
func TestGoodLoginsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLogins(macKey{1}, Rate{5, time.Hour})
		address := netip.MustParseAddr("192.0.2.1")
		login := l.key.of([]byte("alice"), []byte("secret"), []byte("hash"))
		l.good.put(login, time.Now().Add(loginMemory))
		check := func(user, password, hash string) error {
			return l.check(context.Background(), address, user, password, []byte(hash), true)
		}
		if err := check("alice", "secret", "hash"); err != nil {
			t.Error(err)
		}
		if check("alic", "esecret", "hash") == nil || check("alice", "secret", "hash2") == nil || check("alice", "secrethash", "") == nil {
			t.Error("another login is taken for the same")
		}
		time.Sleep(loginMemory)
		if err := check("alice", "secret", "hash"); err == nil {
			t.Error("a login is remembered for ever")
		}
	})
}

// TestWatch: a changed file is told once, when it has stopped changing; so is one that appears or goes.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) {
		if err := os.WriteFile(path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a", "1")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var told atomic.Int64
		go Watch(ctx, time.Second, func() []string { return []string{path("a"), path("b")} }, func() { told.Add(1) })
		want := func(what string, n int64) {
			t.Helper()
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if got := told.Swap(0); got != n {
				t.Errorf("%s: told %d times, want %d", what, got, n)
			}
		}
		time.Sleep(time.Second / 2)
		want("nothing", 0)
		write("a", "12")
		want("a change", 1)
		for i := range 5 {
			write("a", "123456789"[:i+3])
			time.Sleep(time.Second)
			synctest.Wait()
			if told.Load() != 0 {
				t.Error("told while it changes")
			}
		}
		want("many changes", 1)
		write("b", "")
		want("a new file", 1)
		if err := os.Remove(path("a")); err != nil {
			t.Error(err)
		}
		want("a file that has gone", 1)
		cancel()
	})
}
