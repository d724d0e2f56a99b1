package narrate

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Main is the main function of a program that tells a story: it runs the story until it ends
// or the program is interrupted, and exits with status 1 if the story failed, or 130 if it was
// interrupted.
func Main(program string, run func(ctx context.Context, out io.Writer) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout)
	interrupted := ctx.Err() != nil
	stop()
	if err != nil && interrupted {
		os.Exit(130) // the story did not fail, it only did not end
	}
	if err != nil {
		_, _ = fmt.Fprintf(os.Stderr, "%s: %v\n", program, err)
		os.Exit(1)
	}
}
