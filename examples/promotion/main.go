// Command promotion shows how images get from one Azure Container Registry into
// another: a cache rule at the production registry names the development
// registry, and proves itself there with a user-assigned managed identity that is
// attached to this one rule. There is no secret to store, rotate or leak.
//
//	go run ./examples/promotion
//
// It needs neither a network nor Azure. The fakes of auth/azuretest stand for
// Azure, under its production names, behind the same code and SDK as in
// production; the cache is asked over real HTTP.
//
// Every figure that it prints was counted by the fakes. If one of them is not
// what the story says, the program ends with status 1.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/pullthrough/pullthrough/auth/azuretest"
	"github.com/pullthrough/pullthrough/examples/internal/puller"
)

func main() {
	leaveAzure()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout)
	interrupted := ctx.Err() != nil
	stop()
	if err != nil && interrupted {
		os.Exit(130) // the story was not told to its end, which says nothing about it
	}
	if err != nil {
		_, _ = fmt.Fprintf(os.Stderr, "promotion: %v\n", err)
		os.Exit(1)
	}
}

// leaveAzure makes the SDK look for managed identities where it does on a plain
// virtual machine, also if the program runs in App Service or Cloud Shell: there
// the environment leads elsewhere, to identities that are real.
func leaveAzure() {
	for _, name := range []string{"IDENTITY_ENDPOINT", "IDENTITY_HEADER", "IDENTITY_SERVER_THUMBPRINT",
		"IMDS_ENDPOINT", "MSI_ENDPOINT", "MSI_SECRET", "AZURE_POD_IDENTITY_AUTHORITY_HOST"} {
		_ = os.Unsetenv(name)
	}
}

// run sets the stage and tells the story. It leaves nothing behind.
func run(ctx context.Context, out io.Writer) error { return perform(ctx, out, nil) }

// perform is run with somebody who may meddle with the story before each step,
// so that it can be shown that a story which is not true fails.
func perform(ctx context.Context, out io.Writer, meddle func(step int, s *story)) (err error) {
	az := azuretest.New(nil)
	defer az.Close()
	seen := &witness{azure: az}
	st, err := newStage(az, seen)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.close()) }()
	s := &story{
		stage:   st,
		printer: &printer{out: io.MultiWriter(out, seen)},
		client:  puller.New(st.server.URL),
		seen:    seen,
		meddle:  meddle,
	}
	s.client.Seen = seen
	defer s.client.HTTP.CloseIdleConnections()
	return s.tell(ctx)
}
