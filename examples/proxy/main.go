// Command proxy is a pull-through cache that a YAML file configures.
//
//	proxy -config FILE          serve
//	proxy -check -config FILE   print the mistakes in FILE, or "ok: ..."
//	proxy -schema               print the JSON schema of the file
//	proxy store ls DIR [REPO]   list what a store has, or a repository in it
//	proxy store check DIR       look for damage in a store; with -repair, make it good
//	proxy help                  list the commands that show a running proxy, and act on it
//
// Those commands talk to the admin address over HTTP, as other programs can; package admin has
// the paths. To act there needs a token or a client certificate; see adminAccess.
//
// See config.yaml for a file with every key. HTTPS_PROXY, NO_PROXY and SSL_CERT_FILE apply
// to upstreams, webhooks, Microsoft Entra and Key Vault, but never to the managed-identity
// endpoint. SIGTERM and SIGINT end the program gracefully: running responses finish, and
// unfinished downloads are resumed after the next start.
//
// The section access says who may pull what: users of an htpasswd file, static tokens, client
// certificates, and anonymous clients, each with patterns of repositories. Clients log in at the
// token service of the program, or send a password or a static token with each request. The
// section limits bounds what clients may ask for. Without access the program does not authorize
// its clients: on an address that other machines reach, anybody can pull with the credentials
// of the rules, and the program logs a warning at the start.
//
// Webhooks receive an event for each image that was copied or deleted, at least once. Events
// that a receiver has not taken wait in the store, up to 10,000 for each receiver and for up
// to a day, however the program ends. A repeated event has the same ID.
//
// With minAge and gate, a rule holds images that are new to a tag until this program has known
// them for a while, and until a command or an HTTP service admits them. The tag stands for the
// former image meanwhile; a first pull is refused. Pulls by digest are not held.
//
// SIGHUP reads the file again and applies it in one step: rules with their gates, which are
// asked anew, credentials, identities, freshness, prefetch lists, mirrors, bandwidth, who may
// pull what, and the certificates of tls. Files of users, tokens and certificates are read
// again when they change, too. Credentials and identities that did not change keep their
// tokens. Secrets in a Key Vault are read again; those in files are read at every use anyway.
// If the file has mistakes, or another key has changed, the log names each mistake with its
// line, or the keys that need a restart, and nothing changes. SIGHUP never ends the program.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
)

// The exit codes.
const (
	exitOK    = 0
	exitFault = 1 // the file has mistakes, or serving failed
	exitUsage = 2
	// Commands that need a running proxy have more: see package remote.
)

func main() {
	if os.Getenv("GOGC") == "" {
		// What is live is a few MiB, so the default collects garbage all the time: a tenth of
		// the work of a warm pull for 10 MiB of memory.
		debug.SetGCPercent(200)
	}
	// After the first signal, stop restores the default, so that the second one kills
	// the program.
	signaled, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	ctx, end := context.WithCancel(context.Background())
	context.AfterFunc(signaled, func() {
		stop()
		end() // last: a user who sees that the program drains may send the second signal at once
	})
	// SIGHUP is caught from the start to the end, since it must not end the program,
	// neither before it serves nor while it drains.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	os.Exit(run(ctx, hangups, os.Args[1:], os.Stdout, os.Stderr))
}

// run runs the program and returns its exit code. At each signal of hangups it reads the
// file again.
func run(ctx context.Context, hangups <-chan os.Signal, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("proxy", flag.ContinueOnError)
	flags.SetOutput(stderr)
	file := flags.String("config", "", "the YAML `FILE` to read, and to read again at SIGHUP")
	check := flags.Bool("check", false, "only check the file")
	schema := flags.Bool("schema", false, "only print the JSON schema of the file, which editors know how to use")
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		c, ok := find(args[0])
		if !ok {
			fmt.Fprintf(stderr, "there is no command %q; proxy help lists them\n", args[0])
			return exitUsage
		}
		return c.run(ctx, args[1:], stdout, stderr)
	}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return exitOK
		}
		return exitUsage
	}
	if *schema {
		return printSchema(stdout, stderr)
	}
	if *file == "" || flags.NArg() > 0 {
		fmt.Fprintln(stderr, "usage: proxy [-check] -config FILE, or proxy COMMAND; proxy help lists the commands")
		return exitUsage
	}
	s, err := build(*file)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitFault
	}
	if *check {
		fmt.Fprintln(stdout, "ok:", s.summary())
		return exitOK
	}
	log, journal := newJournal(stderr)
	defer journal.flush()
	if err := serve(ctx, newLive(*file, s, log), hangups, stdout); err != nil {
		log.Error("the proxy ends", "error", err)
		return exitFault
	}
	return exitOK
}
