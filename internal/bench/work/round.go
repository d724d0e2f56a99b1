package work

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/pullthrough/pullthrough/internal/bench/load"
	"github.com/pullthrough/pullthrough/internal/bench/peer"
	"github.com/pullthrough/pullthrough/internal/bench/proc"
	"github.com/pullthrough/pullthrough/internal/bench/registry"
	"github.com/pullthrough/pullthrough/internal/bench/report"
	"github.com/pullthrough/pullthrough/internal/bench/serve"
)

// The units.
const (
	mib = 1 << 20
	gib = 1 << 30
)

// round is the part that one peer has in one round.
type round struct {
	bench   *Bench
	peer    peer.Peer
	number  int
	up      *registry.Server
	catalog string

	// Of the server, if there is one.
	process *proc.Process
	setting peer.Setting
	addr    string

	values []value
}

// value is what was measured, until the part has ended well.
type value struct {
	row report.Row
	v   float64
}

// lower notes a value that is better the lower it is; higher the other way round.
func (r *round) lower(work, what string, v float64) {
	r.values = append(r.values, value{report.Row{Work: work, What: what}, v})
}

func (r *round) higher(work, what string, v float64) {
	r.values = append(r.values, value{report.Row{Work: work, What: what, Higher: true}, v})
}

// publish puts the values into the results.
func (r *round) publish(noise float64) {
	works := map[string]bool{}
	for _, v := range r.values {
		r.bench.Results.Add(v.row, r.peer.Name, r.number, v.v)
		if !works[v.row.Work] {
			works[v.row.Work] = true
			r.bench.Results.AddNoise(v.row.Work, noise)
		}
	}
}

// brief is the values in a line.
func (r *round) brief() string {
	var b strings.Builder
	last := ""
	for _, v := range r.values {
		if v.row.Work != last {
			fmt.Fprintf(&b, "; %s:", v.row.Work)
			last = v.row.Work
		}
		fmt.Fprintf(&b, " %s %.3g", v.row.What, v.v)
	}
	return strings.TrimPrefix(b.String(), "; ")
}

// start starts the peer with nothing cached.
func (r *round) start(ctx context.Context, window bool) error {
	if r.peer.Command == nil {
		r.addr = r.up.Host
		return nil
	}
	folder, err := os.MkdirTemp(r.bench.Folder, "server-")
	if err != nil {
		return err
	}
	r.setting = peer.Setting{Program: r.bench.Programs[r.peer.Name], Folder: folder, Upstream: r.up.Host, Catalog: r.catalog, Root: os.Getuid() == 0}
	return r.run(ctx, window)
}

// run starts the server, on another port if somebody took the first one.
func (r *round) run(ctx context.Context, window bool) (err error) {
	r.setting.Window = window
	for range 3 {
		if r.setting.Address, err = proc.FreeAddress(); err != nil {
			return err
		}
		r.addr = r.setting.Address
		r.process, err = proc.Start(ctx, r.peer.Command(r.setting), r.setting.Folder, "http://"+r.addr+"/v2/")
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// stop ends the server, if there is one. What it has cached stays.
func (r *round) stop() error {
	p := r.process
	if r.process = nil; p == nil {
		return nil
	}
	return p.Stop()
}

// close ends the server and removes what it has written.
func (r *round) close() error {
	err := r.stop()
	if r.setting.Folder != "" {
		err = errors.Join(err, os.RemoveAll(r.setting.Folder))
	}
	return err
}

// cpu measures the processor time of the server while do runs, and of what it does
// afterwards by itself. Without a server it is 0.
func (r *round) cpu(ctx context.Context, do func() error) (time.Duration, error) {
	if r.process == nil {
		return 0, do()
	}
	before, err := r.process.CPU()
	if err != nil {
		return 0, err
	}
	if err := do(); err != nil {
		return 0, err
	}
	if err := r.settle(ctx); err != nil {
		return 0, err
	}
	after, err := r.process.CPU()
	return after - before, err
}

// A server has settled when it used no processor for quiet.
const (
	quiet         = 150 * time.Millisecond
	settleTimeout = 2 * time.Minute
)

// settle waits until the server has nothing left to do.
func (r *round) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	if r.peer.Name == peer.Cache {
		if err := get(ctx, "http://"+r.addr+serve.Idle); err != nil {
			return fmt.Errorf("copies do not end: %w", err)
		}
	}
	last, err := r.process.CPU()
	if err != nil {
		return err
	}
	for since := time.Now(); time.Since(since) < quiet || r.up.Open() > 0; {
		select {
		case <-ctx.Done():
			return fmt.Errorf("the server does not come to rest: %w", context.Cause(ctx))
		case <-time.After(quiet / 10):
		}
		used, err := r.process.CPU()
		if err != nil {
			return err
		}
		if used != last {
			last, since = used, time.Now()
		}
	}
	return nil
}

// get gets something whose content does not matter.
func get(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// window has a peer that can do so trust tags from now on, and pulls images once, so that
// all tags are known. The others go on as before.
func (r *round) window(ctx context.Context, images [][]registry.Part, workers int) error {
	if !r.peer.Window {
		return nil
	}
	if err := r.stop(); err != nil {
		return err
	}
	if err := r.run(ctx, true); err != nil {
		return err
	}
	if _, err := load.Storm(ctx, r.addr, images, workers); err != nil {
		return err
	}
	r.up.Reset()
	return nil
}

// wantCached fails if blobs were fetched from the registry since its Reset: what was
// measured was not warm.
func (r *round) wantCached() error {
	if n := r.up.Fetched(); n > 0 {
		return fmt.Errorf("%d blobs were fetched again", n)
	}
	return nil
}

// wantAsked fails if this cache asked about tags otherwise than it was told to.
func (r *round) wantAsked(least, most int) error {
	if n := int(r.up.Asked()); r.peer.Name == peer.Cache && (n < least || n > most) {
		return fmt.Errorf("%d requests for manifests upstream, want %d to %d", n, least, most)
	}
	return nil
}

// size is a number of bytes for people.
func size(n int64) string {
	for _, u := range []struct {
		bytes int64
		name  string
	}{{gib, "GiB"}, {mib, "MiB"}, {1 << 10, "KiB"}} {
		if n >= u.bytes && n%u.bytes == 0 {
			return fmt.Sprintf("%d %s", n/u.bytes, u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
