package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"
)

// A line of the log is written at most journalDelay after it was logged, in one write with
// others: each write costs as much as a pull of a manifest. Lines take at most journalSize
// bytes of memory; when there are more, whoever logs waits for the write.
const (
	journalDelay = 50 * time.Millisecond
	journalSize  = 64 << 10
)

// journal writes lines behind those who log them. Its method flush must be called at the
// end. It is safe for concurrent use.
type journal struct {
	out io.Writer

	mu    sync.Mutex
	lines []byte
	due   bool // flush will be called
}

// newJournal returns a logger that writes to out, and the journal that must be flushed at
// the end. A warning or an error is written at once, after the lines before it.
func newJournal(out io.Writer) (*slog.Logger, *journal) {
	j := &journal{out: out}
	return slog.New(prompt{slog.NewTextHandler(j, nil), j}), j
}

// Write keeps a line.
func (j *journal) Write(line []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line...)
	if len(j.lines) >= journalSize {
		return len(line), j.write()
	}
	if !j.due {
		j.due = true
		time.AfterFunc(journalDelay, func() { _ = j.flush() }) // there is nobody to tell
	}
	return len(line), nil
}

// flush writes what is kept.
func (j *journal) flush() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.due = false
	return j.write()
}

// write is flush with j.mu held.
func (j *journal) write() error {
	if len(j.lines) == 0 {
		return nil
	}
	_, err := j.out.Write(j.lines)
	j.lines = j.lines[:0]
	return err
}

// prompt is a handler that writes warnings and errors at once.
type prompt struct {
	slog.Handler
	journal *journal
}

// Handle writes a record.
func (p prompt) Handle(ctx context.Context, r slog.Record) error {
	err := p.Handler.Handle(ctx, r)
	if r.Level >= slog.LevelWarn {
		err = errors.Join(err, p.journal.flush())
	}
	return err
}

// WithAttrs returns a handler for the same journal.
func (p prompt) WithAttrs(attrs []slog.Attr) slog.Handler {
	return prompt{p.Handler.WithAttrs(attrs), p.journal}
}

// WithGroup returns a handler for the same journal.
func (p prompt) WithGroup(name string) slog.Handler {
	return prompt{p.Handler.WithGroup(name), p.journal}
}
