// Command proxy is a pull-through cache that is set up by a YAML file.
//
//	proxy -config FILE          serve
//	proxy -check -config FILE   say what is wrong in FILE, or "ok: ..."
//
// See config.yaml for a file with every key. HTTPS_PROXY, NO_PROXY and
// SSL_CERT_FILE hold for upstreams, Microsoft Entra and Key Vault, never for the
// managed-identity endpoint. SIGTERM and SIGINT end it gently: running
// responses finish, unfinished downloads are taken up at the next start.
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
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program without its process.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("proxy", flag.ContinueOnError)
	flags.SetOutput(stderr)
	file := flags.String("config", "", "the YAML `FILE` to read")
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
	if err := serve(ctx, s, stdout, log); err != nil {
		log.Error("ended", "error", err)
		return exitFault
	}
	return exitOK
}
