package e2e

import (
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// TestFleetFrozen stops a replica, which then takes connections and answers none, and pulls
// many blobs from the others. Each is fetched once, and only the first ones wait.
func TestFleetFrozen(t *testing.T) {
	b := newTable(t, "event", "upstream sent", "blobs pulled", "slow first bytes")
	const blobs, size, slow = 40, 1 << 20, 200 * time.Millisecond
	r := newFleetRig(t, 3)
	r.start(r.replicas...)
	r.replicas[0].signal(syscall.SIGSTOP)
	var late []string
	for begun := time.Now(); len(r.up.Requests()) < blobs; {
		d := r.addBlob(size, -1)
		for _, i := range []int{1, 2} {
			p := r.pull(i, "blobs/"+d.String())
			if !p.good(d) {
				t.Errorf("with a frozen replica: %v", p)
			}
			if p.first > slow {
				late = append(late, fmt.Sprintf("%.1f s, after %.0f s", p.first.Seconds(), time.Since(begun).Seconds()))
			}
		}
	}
	r.quiet()
	if got := r.up.BlobBytes(""); got != blobs*size {
		t.Errorf("the upstream sent %d bytes for %d blobs of %d", got, blobs, size)
	}
	b.add("a frozen replica", fmt.Sprintf("%.3f x", float64(r.up.BlobBytes(""))/(blobs*size)), fmt.Sprint(2*blobs), strings.Join(late, "; "))
	if len(late) > blobs/4 {
		t.Errorf("%d of %d pulls waited for the frozen replica", len(late), 2*blobs)
	}
}

// TestFleetDamagedDisk changes a blob on the disk of the replica that the others get it from.
// No client gets wrong bytes with a clean end, and the second pull is good.
func TestFleetDamagedDisk(t *testing.T) {
	b := newTable(t, "event", "upstream sent", "pulls at the other replicas")
	const size = 8 << 20
	r := newFleetRig(t, 3)
	r.start(r.replicas...)
	s := &blobStory{r: r, d: r.addBlob(size, 0), size: size}
	if p := r.pull(0, "blobs/"+s.d.String()); !p.good(s.d) {
		t.Fatalf("the first pull: %v", p)
	}
	r.until("the blob is stored", func() bool {
		x, ok := r.replicas[0].stats()
		return ok && x.Cache.Downloads == 0
	})
	damage(t, r.replicas[0].Dir, s.d.Encoded(), size/2)
	var said []string
	for _, i := range []int{1, 1, 2, 2} {
		p := r.pull(i, "blobs/"+s.d.String())
		s.all = append(s.all, p)
		said = append(said, map[bool]string{true: "good", false: "cut"}[p.good(s.d)])
	}
	s.wantNoWrongEnd()
	for _, again := range []pulled{s.all[1], s.all[3]} {
		if !again.good(s.d) {
			t.Errorf("the second pull: %v", again)
		}
	}
	s.wantSent(3)
	b.add("the owner's disk is damaged", fmt.Sprintf("%.3f x", s.ratio()), strings.Join(said, ", "))
}

// damage changes the file of a blob in the middle.
func damage(t *testing.T, dir, name string, at int64) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.Contains(entry.Name(), name) {
			return err
		}
		n++
		if err := os.Chmod(path, 0o600); err != nil {
			return err
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteAt([]byte("damaged"), at)
		return err
	})
	if err != nil || n != 1 {
		t.Fatalf("%d files of the blob are damaged: %v", n, err)
	}
}

// TestFleetFirstByte pulls cold blobs of an upstream that is a round trip away, from all
// replicas at once. The first byte comes after that and little more.
func TestFleetFirstByte(t *testing.T) {
	const blobs, size, trip = 30, 256 << 10, 100 * time.Millisecond
	b := newTable(t, "replicas", "upstream", "upstream sent", "first byte: median, 90 %, last")
	for _, replicas := range []int{1, 3, 6} {
		r := newFleetRig(t, replicas)
		r.up.Fail(upstreamtest.Fault{Kind: "blob", Method: http.MethodGet, Latency: trip})
		r.start(r.replicas...)
		var first []time.Duration
		for range blobs {
			d, p := r.addBlob(size, -1), &pulls{r: r}
			for i := range r.replicas {
				p.begin(i, d)
			}
			for _, got := range p.wait() {
				if !got.good(d) {
					t.Errorf("%v", got)
				}
				first = append(first, got.first)
			}
		}
		if got := r.up.BlobBytes(""); got != blobs*size {
			t.Errorf("%d replicas: the upstream sent %d bytes for %d blobs of %d", replicas, got, blobs, size)
		}
		slices.Sort(first)
		at := func(part float64) string {
			return fmt.Sprintf("%d ms", first[int(part*float64(len(first)-1))].Milliseconds())
		}
		b.add(fmt.Sprint(replicas), trip.String()+" away", fmt.Sprintf("%.3f x", float64(r.up.BlobBytes(""))/(blobs*size)), at(0.5)+", "+at(0.9)+", "+at(1))
	}
}
