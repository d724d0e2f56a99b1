package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/pullthrough/pullthrough/examples/proxy/remote"
	"github.com/pullthrough/pullthrough/store"
)

const storeUsage = `usage: proxy store ls DIR [REPOSITORY]
       proxy store check [-repair] DIR
       proxy store size|ls|check -admin ADDRESS ... | -config FILE ...
DIR is the folder of a store that no proxy has open; of one with far, it has what is near. The last form asks a running proxy; "proxy help store ls"
describes it.`

// runStore runs a command about a store and returns its exit code.
func runStore(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	command := ""
	if len(args) > 0 {
		command = args[0]
	}
	if c, ok := remote.Find("store " + command); ok && asksProxy(args) {
		return runRemote(c)(ctx, args[1:], stdout, stderr)
	}
	flags := flag.NewFlagSet("proxy store "+command, flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprintln(stderr, storeUsage); flags.PrintDefaults() }
	repair := false
	most := 1 // arguments
	switch command {
	case "ls":
		most = 2
	case "check":
		flags.BoolVar(&repair, "repair", false, "remove what is damaged, so that it is fetched again when it is pulled")
	default:
		fmt.Fprintln(stderr, storeUsage)
		return exitUsage
	}
	if err := flags.Parse(args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return exitOK
		}
		return exitUsage
	}
	if flags.NArg() < 1 || flags.NArg() > most {
		fmt.Fprintln(stderr, storeUsage)
		return exitUsage
	}
	d, err := openStore(flags.Arg(0))
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitFault
	}
	switch {
	case command == "check":
		err = checkStore(ctx, d, repair, stdout)
	case flags.NArg() == 2:
		err = listRepository(ctx, d, flags.Arg(1), stdout)
	default:
		err = listStore(ctx, d, stdout)
	}
	if err = errors.Join(err, d.Close()); err != nil {
		fmt.Fprintln(stderr, err)
		return exitFault
	}
	return exitOK
}

// asksProxy reports whether the arguments of store are for a running proxy: they say so, or
// name no folder while the environment names a proxy, or there is no other form.
func asksProxy(args []string) bool {
	folder := slices.ContainsFunc(args[1:], func(a string) bool {
		info, err := os.Stat(a)
		return err == nil && info.IsDir()
	})
	help := slices.Equal(args[1:], []string{"-h"})
	return args[0] == "size" || help || remote.Uses(args) || !folder && os.Getenv("PROXY_ADMIN") != ""
}

// openStore opens a store that is there.
func openStore(dir string) (*store.Dir, error) {
	if _, err := os.Stat(filepath.Join(dir, "index.db")); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is not the folder of a store: it has no index.db", dir)
	}
	d, err := store.OpenDir(dir)
	if errors.Is(err, store.ErrInUse) {
		return nil, fmt.Errorf("%w: stop the proxy first", err)
	}
	return d, err
}

var errFaults = errors.New("the store has faults: run proxy store check -repair")

func checkStore(ctx context.Context, d *store.Dir, repair bool, out io.Writer) error {
	faults := 0
	err := d.Check(ctx, store.CheckOptions{Repair: repair, Rate: -1}, func(f store.Fault) {
		faults++
		fmt.Fprintln(out, f)
	})
	if err == nil && d.Rebuilt() != nil {
		fmt.Fprintln(out, "the store began anew:", d.Rebuilt())
	}
	if err == nil && faults > 0 && !repair {
		return errFaults
	}
	if err == nil {
		fmt.Fprintf(out, "checked, faults: %d\n", faults)
	}
	return err
}

func listStore(ctx context.Context, d *store.Dir, out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "REPOSITORY\tTAGS\tMANIFESTS\tBYTES")
	for repo, err := range d.Repositories(ctx, "") {
		if err != nil {
			return err
		}
		tags, manifests := 0, 0
		for _, err := range d.TagNames(ctx, repo, "") {
			if err != nil {
				return err
			}
			tags++
		}
		for _, err := range d.Manifests(ctx, repo) {
			if err != nil {
				return err
			}
			manifests++
		}
		size, err := d.RepositorySize(ctx, repo)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\n", repo, tags, manifests, size)
	}
	size, err := d.Size(ctx)
	if err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%d bytes of content, shared ones counted once, and %d beside\n", size.Content, size.Overhead)
	return err
}

func listRepository(ctx context.Context, d *store.Dir, repo string, out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TAG\tDIGEST\tSOURCE")
	for name, err := range d.TagNames(ctx, repo, "") {
		if err != nil {
			return err
		}
		tag, err := d.Tag(ctx, repo, name)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", name, tag.Digest, tag.Source)
	}
	fmt.Fprintln(w, "\nMANIFEST\tBYTES\tLAST USE\tTYPE")
	for m, err := range d.Manifests(ctx, repo) {
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", m.Digest, m.Size, m.Use.Last.Format(time.DateOnly), m.MediaType)
	}
	fmt.Fprintln(w, "\nBLOB\tBYTES\tSOURCE")
	for b, err := range d.Blobs(ctx, repo) {
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s\t%d\t%s\n", b.Digest, b.Size, b.Source)
	}
	return w.Flush()
}
