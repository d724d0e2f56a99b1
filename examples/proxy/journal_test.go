package main

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pages counts writes.
type pages struct {
	mu    sync.Mutex
	text  bytes.Buffer
	count int
}

func (p *pages) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count++
	return p.text.Write(b)
}

// lines returns how many lines were written, in how many writes.
func (p *pages) lines() (lines, writes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Count(p.text.String(), "\n"), p.count
}

// TestLogIsWrittenBehind: many lines cost few writes and are written soon, and at once
// with a warning; none is lost, and none is long in memory.
func TestLogIsWrittenBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out pages
		log, j := newJournal(&out)
		want := func(when string, lines, writes int) {
			t.Helper()
			if n, w := out.lines(); n != lines || w != writes {
				t.Errorf("%s: %d lines in %d writes, want %d in %d", when, n, w, lines, writes)
			}
		}
		for range 10 {
			log.With("a", 1).WithGroup("g").Info("line", "b", 2)
		}
		want("at once", 0, 0)
		time.Sleep(journalDelay)
		synctest.Wait()
		want("soon", 10, 1)
		log.Info("line")
		log.With("a", 1).Warn("trouble")
		want("with a warning", 12, 2)
		time.Sleep(journalDelay)
		synctest.Wait()
		log.Info("x", slog.String("long", strings.Repeat("x", journalSize)))
		want("with a long line", 13, 3)
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() { log.Info("line") })
		}
		all.Wait()
		if err := j.flush(); err != nil {
			t.Error(err)
		}
		want("at the end", 33, 4)
		time.Sleep(journalDelay)
	})
}
