// Command bench compares this cache with other servers that can stand between clients and
// a registry. See README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/pullthrough/pullthrough/internal/bench/peer"
	"github.com/pullthrough/pullthrough/internal/bench/report"
	"github.com/pullthrough/pullthrough/internal/bench/serve"
	"github.com/pullthrough/pullthrough/internal/bench/work"
)

func main() {
	if role := serve.Role(os.Args); role != nil {
		if err := role(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	// After the first signal, stop restores the default, so that the second one kills.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run measures what args say, and prints the table to stdout, also when it is
// interrupted or a part fails: then the error says so.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp(o.dir, "pullthrough-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	if folder, err = filepath.Abs(folder); err != nil {
		return err
	}
	begun := time.Now()
	progress := func(format string, args ...any) {
		fmt.Fprintf(stderr, "%5.0f s  %s\n", time.Since(begun).Seconds(), fmt.Sprintf(format, args...))
	}
	b := &work.Bench{Rounds: o.rounds, Sizes: o.sizes, Folder: folder, Progress: progress, Crane: peer.Find(o.tools, "crane")}
	if err := choose(b, o, folder); err != nil {
		return err
	}
	var works []work.Work
	for _, w := range work.All() {
		switch {
		case !o.only.MatchString(w.Name):
		case w.Name == "crane" && b.Crane == "":
			progress("crane is missing, and its work is left out: see install.sh")
		default:
			works = append(works, w)
		}
	}
	fmt.Fprintln(stdout, report.Machine(folder, begun))
	fmt.Fprintf(stdout, "%d rounds; ratios above 1 are in favour of this cache; median (range)\n\n", o.rounds)
	measured := b.Run(ctx, works)
	var all []string
	for _, p := range b.Peers {
		all = append(all, p.Name)
	}
	if err := b.Results.Print(stdout, all); err != nil {
		return err
	}
	if n := b.Results.Failed(); measured == nil && n > 0 {
		measured = fmt.Errorf("%d parts failed", n)
	}
	return measured
}

// choose sets the peers that take part, and their programs.
func choose(b *work.Bench, o *options, folder string) error {
	self, err := copySelf(folder)
	if err != nil {
		return err
	}
	b.Programs = map[string]string{}
	for _, p := range peer.All() {
		program := self
		if p.Tool != "" {
			program = peer.Find(o.tools, p.Tool)
		}
		switch {
		case p.Name != peer.Cache && !o.peers.MatchString(p.Name):
		case program == "":
			b.Progress("%s is missing, and left out: see install.sh", p.Tool)
		default:
			b.Peers = append(b.Peers, p)
			b.Programs[p.Name] = program
		}
	}
	return nil
}

// copySelf copies this program, so that the servers that are a part of it share no pages
// of memory with the one that measures them.
func copySelf(folder string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	data, err := os.ReadFile(self)
	if err != nil {
		return "", err
	}
	path := filepath.Join(folder, "server")
	return path, os.WriteFile(path, data, 0o700)
}
