// Command proxy is a pull-through cache that is set up by a YAML file.
//
//	proxy -config FILE          serve
//	proxy -check -config FILE   say what is wrong in FILE, or "ok: ..."
//
// See config.yaml for a file with every key. HTTPS_PROXY, NO_PROXY and
// SSL_CERT_FILE hold for upstreams, webhooks, Microsoft Entra and Key Vault, never
// for the managed-identity endpoint. SIGTERM and SIGINT end it gently: running
// responses finish, unfinished downloads are taken up at the next start.
//
// It does not authorize its clients: on an address that other machines reach,
// anybody can pull with the credentials of the rules, and a line in the log says so
// at the start. Listen on loopback behind a gateway that authorizes, or embed the
// library and set cache.Cache.Authorize.
//
// Webhooks are told of what was copied or deleted, at least once: what a receiver
// has not taken waits in the store, 10,000 events of each for a day, however this
// program ends, and comes with the same event ID.
//
// SIGHUP reads the file again and puts it in force in one step: rules,
// credentials, identities, freshness, and the certificate of tls. What did not
// change keeps its tokens; secrets in a Key Vault are read again, those in files
// are at every use anyhow. If anything is wrong with the file, or something else
// in it has changed, the log says what (each mistake with its line; the keys that
// need a restart), and all stays as it was. SIGHUP never ends the program.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

// What the program exits with.
const (
	exitOK    = 0
	exitFault = 1 // the file is wrong, or serving failed
	exitUsage = 2
)

func main() {
	// The second signal kills: once the first one came, stop restores the
	// default.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, stop)
	// Caught from the start and never given back: it must not end the program,
	// neither before it serves nor while it drains.
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGHUP)
	os.Exit(run(ctx, again, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program without its process. At each signal of again the file is
// read once more.
func run(ctx context.Context, again <-chan os.Signal, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("proxy", flag.ContinueOnError)
	flags.SetOutput(stderr)
	file := flags.String("config", "", "the YAML `FILE` to read, and to read again at SIGHUP")
	check := flags.Bool("check", false, "only say whether the file is right")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return exitOK
		}
		return exitUsage
	}
	if *file == "" || flags.NArg() > 0 {
		fmt.Fprintln(stderr, "usage: proxy [-check] -config FILE")
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
	log := slog.New(slog.NewTextHandler(stderr, nil))
	if err := serve(ctx, newLive(*file, s, log), again, stdout); err != nil {
		log.Error("ended", "error", err)
		return exitFault
	}
	return exitOK
}
