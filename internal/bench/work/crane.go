package work

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/pullthrough/pullthrough/internal/bench/peer"
	"github.com/pullthrough/pullthrough/internal/bench/registry"
)

// crane is a cold image of ten layers that a real client pulls, also straight from the
// registry. Crane checks the digests.
func crane() Work {
	return Work{Name: "crane", Peers: servers(peer.Direct), prepare: func(s Sizes, c *registry.Catalog, folder string) (measure, error) {
		const layers = 10
		img := c.Layered("b/layers", layers, s.Layer)
		name := fmt.Sprintf("image of %d layers of %s by crane, cold", layers, size(int64(s.Layer)))
		return func(ctx context.Context, r *round) (err error) {
			if r.bench.Crane == "" {
				return errors.New("crane is missing")
			}
			if err := r.start(ctx, false); err != nil {
				return err
			}
			out := filepath.Join(folder, "pulled")
			defer func() { err = errors.Join(err, os.RemoveAll(out)) }()
			var took time.Duration
			used, err := r.cpu(ctx, func() (err error) {
				took, err = pullWith(ctx, r.bench.Crane, r.addr+"/"+img.Repo+":"+img.Tag, out)
				return err
			})
			if err != nil {
				return err
			}
			r.lower(name, "s", took.Seconds())
			if r.process != nil {
				r.lower(name, "CPU s/GiB", used.Seconds()/gibs(layers*int64(s.Layer)))
			}
			return nil
		}, nil
	}}
}

// pullWith has crane pull an image into a folder.
func pullWith(ctx context.Context, crane, image, folder string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, crane, "pull", "--insecure", "--format", "oci", image, folder)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	begun := time.Now()
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("crane: %w\n%s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return time.Since(begun), nil
}
