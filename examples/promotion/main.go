// Command promotion shows how images get from one Azure Container Registry into another: a
// cache rule at the production registry names the development registry, and authenticates
// there with a user-assigned managed identity that is attached to this one rule. There is
// no secret to store, rotate or leak.
//
//	go run ./examples/promotion
//
// It needs neither a network nor Azure. The fakes of auth/azuretest take the place of
// Azure, with its production names and the code and SDK of production; requests to the
// cache use real HTTP.
//
// The fakes counted every figure that the program prints. If one of them is not as
// expected, the program ends with status 1.
package main

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/pullthrough/pullthrough/auth/azuretest"
	"github.com/pullthrough/pullthrough/examples/internal/puller"

	"github.com/pullthrough/pullthrough/examples/internal/narrate"
)

func main() {
	leaveAzure()
	narrate.Main("promotion", run)
}

// leaveAzure makes the SDK use the managed-identity endpoint of a plain virtual machine,
// even if the program runs in App Service or Cloud Shell, whose environment variables lead
// to endpoints of real identities.
func leaveAzure() {
	for _, name := range []string{"IDENTITY_ENDPOINT", "IDENTITY_HEADER", "IDENTITY_SERVER_THUMBPRINT",
		"IMDS_ENDPOINT", "MSI_ENDPOINT", "MSI_SECRET", "AZURE_POD_IDENTITY_AUTHORITY_HOST"} {
		_ = os.Unsetenv(name)
	}
}

// run sets the stage up and tells the story. It leaves nothing behind.
func run(ctx context.Context, out io.Writer) error { return perform(ctx, out, nil) }

// perform is run with a function that is called before each step. Tests meddle with the
// story there, to show that it fails if something is not as expected.
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
