package work

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/internal/bench/peer"
	"github.com/pullthrough/pullthrough/internal/bench/proc"
	"github.com/pullthrough/pullthrough/internal/bench/registry"
	"github.com/pullthrough/pullthrough/internal/bench/serve"
)

// TestMain lets this program be the servers that it starts.
func TestMain(m *testing.M) {
	if role := serve.Role(os.Args); role != nil {
		if err := role(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// tiny are the smallest sizes.
func tiny() Sizes {
	return Sizes{
		Blob: 1 << 20, Fan: 1 << 20, Passes: 1, Images: 25, Time: 20 * time.Millisecond, Layer: 10_000, Slow: 3, SlowTime: 50 * time.Millisecond,
		Far: 100_000, Link: registry.Link{Delay: time.Millisecond, Rate: 1 << 30}, Growth: []int{10, 30},
	}
}

// bench makes a Bench with those peers, whose progress goes into the returned list.
func bench(t *testing.T, peers ...peer.Peer) (*Bench, *[]string) {
	t.Helper()
	var lines []string
	b := &Bench{Peers: peers, Programs: map[string]string{}, Rounds: 2, Sizes: tiny(), Folder: t.TempDir()}
	for _, p := range peers {
		b.Programs[p.Name] = os.Args[0]
	}
	b.Progress = func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	return b, &lines
}

// find returns a peer or a work by its name.
func find[T any](t *testing.T, all []T, name func(T) string, want string) T {
	t.Helper()
	i := slices.IndexFunc(all, func(v T) bool { return name(v) == want })
	if i < 0 {
		t.Fatalf("there is no %q", want)
	}
	return all[i]
}

func peerNamed(t *testing.T, name string) peer.Peer {
	return find(t, peer.All(), func(p peer.Peer) string { return p.Name }, name)
}

func workNamed(t *testing.T, name string) Work {
	return find(t, All(), func(w Work) string { return w.Name }, name)
}

// table is what a Bench prints.
func table(t *testing.T, b *Bench) string {
	t.Helper()
	var all []string
	for _, p := range b.Peers {
		all = append(all, p.Name)
	}
	var text strings.Builder
	if err := b.Results.Print(&text, all); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// wantNothingLeft fails if a Bench has left files.
func wantNothingLeft(t *testing.T, b *Bench) {
	t.Helper()
	left, err := os.ReadDir(b.Folder)
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// broken is a peer in the place of another one that does not start.
func broken(name string) peer.Peer {
	return peer.Peer{Name: name, Command: func(peer.Setting) proc.Command {
		return proc.Command{Args: []string{"sh", "-c", "echo out of order; exit 1"}}
	}}
}

// TestPeerThatFails: the others go on, each of its parts is noted as failed, and it has
// no column.
func TestPeerThatFails(t *testing.T) {
	b, lines := bench(t, peerNamed(t, peer.Cache), broken(peer.Nginx), peerNamed(t, peer.Bare))
	if err := b.Run(t.Context(), []Work{workNamed(t, "fan")}); err != nil {
		t.Fatal(err)
	}
	got := table(t, b)
	if b.Results.Failed() != 2 || strings.Count(got, "out of order") != 2 || strings.Contains(got, "× nginx") || !strings.Contains(got, "× bare net/http") {
		t.Errorf("%d failed:\n%s\n%s", b.Results.Failed(), got, strings.Join(*lines, "\n"))
	}
	wantNothingLeft(t, b)
}

// TestWarmThatIsNot: a server that fetches again what it should have is
// no warm one.
func TestWarmThatIsNot(t *testing.T) {
	// As this peer, the registry itself is asked: it has a new GET for each pull.
	direct := peer.Peer{Name: peer.Nginx}
	b, _ := bench(t, peerNamed(t, peer.Cache), direct)
	if err := b.Run(t.Context(), []Work{workNamed(t, "blob"), workNamed(t, "storm")}); err != nil {
		t.Fatal(err)
	}
	if got := table(t, b); strings.Count(got, "blobs were fetched again") != 4 || b.Results.Failed() != 4 {
		t.Errorf("%d failed:\n%s", b.Results.Failed(), got)
	}
}

// TestCacheThatTrustsTags: the row that says "asking" is one in which this cache asks.
func TestCacheThatTrustsTags(t *testing.T) {
	trusting := peerNamed(t, peer.Cache)
	start := trusting.Command
	trusting.Command = func(s peer.Setting) proc.Command {
		s.Window = true
		return start(s)
	}
	asking := peerNamed(t, peer.Cache)
	asking.Command = func(s peer.Setting) proc.Command {
		s.Window = false
		return start(s)
	}
	for _, p := range []peer.Peer{trusting, asking} {
		b, _ := bench(t, p)
		b.Rounds = 1
		if err := b.Run(t.Context(), []Work{workNamed(t, "storm"), workNamed(t, "manifests")}); err != nil {
			t.Fatal(err)
		}
		if got := table(t, b); b.Results.Failed() != 2 || strings.Count(got, "requests for manifests upstream, want") != 2 {
			t.Errorf("%d failed:\n%s", b.Results.Failed(), got)
		}
	}
}

// TestRoundsAreInterleaved: every peer has its turn in each round, and each begins one.
func TestRoundsAreInterleaved(t *testing.T) {
	b, lines := bench(t, peerNamed(t, peer.Cache), peerNamed(t, peer.Bare))
	if err := b.Run(t.Context(), []Work{workNamed(t, "fan")}); err != nil {
		t.Fatal(err)
	}
	want := []string{"fan: making", "fan, round 1, this cache:", "fan, round 1, bare net/http:", "fan, round 2, bare net/http:", "fan, round 2, this cache:"}
	if !slices.EqualFunc(*lines, want, strings.HasPrefix) || b.Results.Failed() > 0 {
		t.Errorf("%s", strings.Join(*lines, "\n"))
	}
}

// TestInterrupt: an interrupted Bench says so, has what was measured before, and leaves
// neither files nor processes.
func TestInterrupt(t *testing.T) {
	b, _ := bench(t, peerNamed(t, peer.Cache), peerNamed(t, peer.Bare))
	ctx, cancel := context.WithCancelCause(t.Context())
	interrupt := errors.New("an interrupt")
	progress := b.Progress
	b.Progress = func(format string, args ...any) {
		progress(format, args...)
		if format == "growth, %s: %d images" {
			cancel(interrupt)
		}
	}
	err := b.Run(ctx, []Work{workNamed(t, "fan"), workNamed(t, "growth"), workNamed(t, "blob")})
	if !errors.Is(err, interrupt) {
		t.Errorf("the error is %v, want the interrupt", err)
	}
	if got := table(t, b); !strings.Contains(got, "16 clients at once") || strings.Contains(got, "stored") || b.Results.Failed() > 0 {
		t.Errorf("the table is\n%s", got)
	}
	wantNothingLeft(t, b)
	wantNoServer(t, b.Folder)
}

// wantNoServer fails if a process that was started for a folder runs.
func wantNoServer(t *testing.T, folder string) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err == nil && strings.Contains(string(text), folder) {
			t.Errorf("process %s goes on: %q", e.Name(), text)
		}
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{1 << 30: "1 GiB", 3 << 29: "1536 MiB", 64 << 20: "64 MiB", 8 << 10: "8 KiB", 1000: "1000 bytes"} {
		if got := size(n); got != want {
			t.Errorf("%d bytes are %q, want %q", n, got, want)
		}
	}
}

// What was asked for is in memory, so a second question would say nothing of the store.
func TestGrowthAsksForNoImageTwice(t *testing.T) {
	for _, n := range []int{2, 3, 1000, 100_000} {
		byTag, byDigest := draw(n)
		all := slices.Concat(byTag, byDigest)
		slices.Sort(all)
		if once := slices.Compact(all); len(once) != 2*min(samples, n/2) || len(byTag) != len(byDigest) {
			t.Errorf("of %d images, %d are asked for by tag, %d by digest, and %d in all", n, len(byTag), len(byDigest), len(once))
		}
	}
}
