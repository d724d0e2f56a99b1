package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// fullVariable asks for blobs of 64 MiB, which take longer than a test should.
const fullVariable = "E2E_FLEET_FULL"

// fleetScale is the size of the blobs of the fleet's tests, and how many bytes per second the
// upstream sends: 2 seconds a blob, or 4.
func fleetScale() (size int, rate int64) {
	if os.Getenv(fullVariable) != "" {
		return 64 << 20, 16 << 20
	}
	return 32 << 20, 16 << 20
}

// table is what the tests of a fleet found, one line for each event.
type table struct {
	mu    sync.Mutex
	lines []string
}

// newTable makes a table that is logged at the end of the test.
func newTable(t *testing.T, head ...string) *table {
	b := &table{}
	b.add(head...)
	b.add(strings.Split(strings.Repeat("---,", len(head)-1)+"---", ",")...)
	t.Cleanup(func() { t.Logf("\n%s", strings.Join(b.lines, "\n")) })
	return b
}

// add adds a line.
func (b *table) add(cells ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, "| "+strings.Join(cells, " | ")+" |")
}

// blobTable is a table with a line for each story of one blob.
type blobTable struct{ *table }

func newBlobTable(t *testing.T) blobTable {
	return blobTable{newTable(t, "event", "upstream sent", "GETs", "first byte at each replica", "slowest", "longest gap", "good", "wrong", "of each replica: filled/followed/refused/asked")}
}

// blobStory is what happened to one blob.
type blobStory struct {
	r      *fleetRig
	d      digest.Digest
	size   int
	filler int // the replica that fetches the blob if nothing happens
	all    []pulled
	lost   []int // replicas whose clients may be lost
	slow   []int // replicas whose clients may wait for long
}

// goOn has the upstream send the rest of the blob.
func (s *blobStory) goOn() { s.r.up.Release() }

// add adds the line of a story.
func (b blobTable) add(event string, s *blobStory) {
	first, good, wrong := make([]time.Duration, len(s.r.replicas)), 0, 0
	var slowest, gap time.Duration
	for _, p := range s.all {
		first[p.replica] = max(first[p.replica], p.first)
		if p.wrong(s.d) {
			wrong++
		}
		if p.good(s.d) {
			good++
			if !slices.Contains(s.slow, p.replica) {
				slowest, gap = max(slowest, p.done), max(gap, p.gap)
			}
		}
	}
	var each, ms []string
	for i, p := range s.r.replicas {
		ms = append(ms, fmt.Sprint(first[i].Milliseconds()))
		if p.process == nil {
			each = append(each, "-")
			continue
		}
		f, _ := p.stats()
		each = append(each, fmt.Sprintf("%d/%d/%d/%d", f.Fleet.Filled, f.Fleet.Followed, f.Fleet.Refused, f.Fleet.Questions))
	}
	b.table.add(event, fmt.Sprintf("%.3f x", s.ratio()), fmt.Sprint(s.r.up.Count("GET", "blob", s.d.String())), strings.Join(ms, " ")+" ms",
		fmt.Sprintf("%.2f s", slowest.Seconds()), fmt.Sprintf("%.2f s", gap.Seconds()), fmt.Sprintf("%d of %d", good, len(s.all)), fmt.Sprint(wrong), strings.Join(each, " "))
}

// ratio is how often the upstream sent the blob.
func (s *blobStory) ratio() float64 { return float64(s.r.up.BlobBytes(s.d)) / float64(s.size) }

// wantSent fails unless the upstream sent the blob so often at most.
func (s *blobStory) wantSent(most float64) {
	s.r.t.Helper()
	if got := s.ratio(); got > most {
		s.r.t.Errorf("the upstream sent %.3f times the blob, want at most %.2f", got, most)
	}
}

// wantNoWrongEnd fails if a client took wrong bytes for the blob.
func (s *blobStory) wantNoWrongEnd() {
	s.r.t.Helper()
	for _, p := range s.all {
		if p.wrong(s.d) {
			s.r.t.Errorf("wrong bytes ended well: %v", p)
		}
	}
}

// wantGood fails unless every client got the blob, but those of the replicas that are lost.
func (s *blobStory) wantGood() {
	s.r.t.Helper()
	for _, p := range s.all {
		if !p.good(s.d) && !slices.Contains(s.lost, p.replica) {
			s.r.t.Errorf("a client of a replica that lives did not get the blob: %v", p)
		}
	}
}

// wantOneHop fails if the upstream saw more than one cache in a request: replicas are none for
// one another.
func (s *blobStory) wantOneHop() {
	s.r.t.Helper()
	for _, q := range s.r.up.Requests() {
		if got := q.Header.Get("Cdn-Loop"); q.Kind == "blob" && got != fleetID {
			s.r.t.Errorf("%s %s with Cdn-Loop %q, want %q", q.Method, q.Path, got, fleetID)
		}
	}
}
