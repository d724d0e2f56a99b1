package proc

import (
	"testing"
	"time"
)

const stat = "1234 (a (b) c) S 77 1234 1234 0 -1 4194560 1 2 3 4 150 25 9 8 20 0 4 0 1 2 3\n"

func TestParseStat(t *testing.T) {
	parent, used, err := parseStat(stat)
	if parent != 77 || used != 1750*time.Millisecond || err != nil {
		t.Errorf("parent %d, %v, %v; want 77, 1.75 s", parent, used, err)
	}
	for _, text := range []string{"", "1 (x", "1 (x) S 1 2 3", "1 (x) S a b c d e f g h i j k l m"} {
		if _, _, err := parseStat(text); err == nil {
			t.Errorf("%q is taken for a stat", text)
		}
	}
}

func TestParseRollup(t *testing.T) {
	m, err := parseRollup("55d0-7ffc ---p 00000000 00:00 0   [rollup]\nRss:   9000 kB\nPss:   304 kB\nPss_Dirty:  112 kB\nPss_Anon:  100 kB\n" +
		"Pss_File: 192 kB\nPss_Shmem:  12 kB\nAnonymous:   7000 kB\n")
	if want := (Memory{RSS: 304 << 10, Anonymous: 112 << 10}); m != want || err != nil {
		t.Errorf("%+v, %v; want %+v", m, err, want)
	}
	for _, text := range []string{"", "Rss: 1 kB\n", "Pss: many kB\n"} {
		if _, err := parseRollup(text); err == nil {
			t.Errorf("%q is taken for a smaps_rollup", text)
		}
	}
}

// TestParseBusy: waiting for the disk is not busy, and what the host took is.
func TestParseBusy(t *testing.T) {
	busy, all, err := parseBusy("cpu  100 20 30 1000 400 5 6 7 50 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n")
	if busy != 168*tick || all != 1568*tick || err != nil {
		t.Errorf("%v of %v, %v; want 1.68 s of 15.68 s", busy, all, err)
	}
	for _, text := range []string{"", "cpu0 1 2 3 4 5 6 7 8\n", "cpu  1 2 3\n", "cpu  1 2 3 4 5 6 7 x\n"} {
		if _, _, err := parseBusy(text); err == nil {
			t.Errorf("%q is taken for a stat", text)
		}
	}
}

// TestNoise: the share of others is what was busy without us, never below nothing.
func TestNoise(t *testing.T) {
	begin := Noise{busy: 100, all: 1000, ours: 50}
	for _, c := range []struct {
		end  Noise
		want float64
	}{
		{Noise{busy: 400, all: 2000, ours: 150}, 0.2},
		{Noise{busy: 200, all: 2000, ours: 250}, 0}, // ours is exact, and busy is counted in ticks
		{Noise{busy: 1100, all: 2000, ours: 50}, 1},
		{begin, 0},
	} {
		if got := c.end.since(begin); got != c.want {
			t.Errorf("%+v: %v, want %v", c.end, got, c.want)
		}
	}
	n, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	if share, err := n.Share(); err != nil || share < 0 || share > 1 {
		t.Errorf("share %v, %v", share, err)
	}
}
