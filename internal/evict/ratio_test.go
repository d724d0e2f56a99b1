package evict_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/evict"
)

// replay runs a trace with a cache that stores what it lacks, and that plans when it has
// too much.
type replay struct {
	hits
	ghosts *evict.Ghosts // nil for none
	names  []digest.Digest
	stored map[int32]evict.Image
	size   int64
	beyond int64 // the most bytes beyond the space, without the image that is being stored
}

func replayPlans(t *trace, ghosts *evict.Ghosts) *replay {
	p := &replay{hits: hits{t: t}, ghosts: ghosts, stored: map[int32]evict.Image{}}
	for i := range t.sizes {
		p.names = append(p.names, digest.FromString(strconv.Itoa(i)))
	}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, r := range t.requests {
		now := start.Add(time.Duration(r.minute) * time.Minute)
		image, hit := p.stored[r.image]
		p.count(r, hit)
		if hit {
			image.Use = image.Use.Used(now)
			p.stored[r.image] = image
		} else {
			p.store(r.image, now)
		}
	}
	return p
}

func (p *replay) store(i int32, now time.Time) {
	image := evict.Image{Repository: "r", Digest: p.names[i], Bytes: p.t.sizes[i], Stored: now, Use: evict.FirstUse(now)}
	if p.ghosts != nil {
		image.Use = p.ghosts.Stored("r", image.Digest, now)
	}
	p.stored[i] = image
	p.beyond = max(p.beyond, p.size-p.t.space)
	if p.size += image.Bytes; p.size <= p.t.space {
		return
	}
	var g evict.Graph
	numbers := make(map[digest.Digest]int32, len(p.stored))
	for i, image := range p.stored {
		g.Add(image)
		numbers[image.Digest] = i
	}
	plan := g.Plan(evict.Limits{Bytes: evict.Bound{High: p.t.space}}, now)
	p.size -= plan.Freed
	for _, step := range plan.Steps {
		for _, v := range step.Images {
			delete(p.stored, numbers[v.Digest])
		}
		if p.ghosts != nil {
			p.ghosts.Evicted(plan.Left, step.Images...)
		}
	}
}

// TestHitRatio: plans keep what will be pulled, about as well as S3-FIFO does and never
// much worse than LRU, whatever the trace is; and the space is kept.
func TestHitRatio(t *testing.T) {
	for _, tr := range traces(1, 0.25) {
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			lru, s1, s2 := replayLRU(tr), replayS3FIFO(tr, 1), replayS3FIFO(tr, 2)
			plans := replayPlans(tr, new(evict.Ghosts))
			t.Logf("%s: objects %.1f, bytes %.1f %%; LRU %.1f, %.1f; S3-FIFO %.1f, %.1f or %.1f, %.1f", tr.name,
				plans.all.percent(), plans.bytes.percent(), lru.all.percent(), lru.bytes.percent(),
				s1.all.percent(), s1.bytes.percent(), s2.all.percent(), s2.bytes.percent())
			for _, c := range []struct {
				what             string
				got, lru, s1, s2 ratio
			}{
				{"objects", plans.all, lru.all, s1.all, s2.all},
				{"bytes", plans.bytes, lru.bytes, s1.bytes, s2.bytes},
			} {
				if want := 0.95 * max(c.s1.percent(), c.s2.percent()); c.got.percent() < want {
					t.Errorf("hit ratio of %s %.2f %%, want %.2f, since S3-FIFO has 5 %% more", c.what, c.got.percent(), want)
				}
				if want := c.lru.percent() - 2; c.got.percent() < want {
					t.Errorf("hit ratio of %s %.2f %%, want %.2f, LRU less 2", c.what, c.got.percent(), want)
				}
			}
			if plans.beyond > 0 {
				t.Errorf("%d bytes beyond the space", plans.beyond)
			}
		})
	}
}

// TestScansLeaveWhatIsUsedDaily: an image that is pulled every day is there every day,
// whatever is read once meanwhile; also when nothing is remembered of what was given up.
func TestScansLeaveWhatIsUsedDaily(t *testing.T) {
	for _, tr := range traces(1, 0.25) {
		if !strings.HasPrefix(tr.name, "daily") {
			continue
		}
		for _, ghosts := range []*evict.Ghosts{nil, new(evict.Ghosts)} {
			plans, lru := replayPlans(tr, ghosts), replayLRU(tr)
			if got := plans.daily.percent(); got < 99.5 {
				t.Errorf("hit ratio of daily images %.2f %%, want 99.5 at least", got)
			}
			if got := lru.daily.percent(); got > 95 {
				t.Errorf("LRU keeps %.2f %% of the daily images, so this trace shows nothing", got)
			}
		}
	}
}

// BenchmarkHitRatio replays the traces at full length and prints the hit ratios as a
// table of Markdown: images, bytes.
func BenchmarkHitRatio(b *testing.B) {
	for b.Loop() {
		fmt.Println("\n| trace | FIFO | LRU | S3-FIFO | S3-FIFO, 2 uses | optimum | plans | without ghosts | daily images: LRU, plans |\n" +
			strings.Repeat("|---", 9) + "|")
		for _, tr := range traces(1, 1) {
			lru, plans := replayLRU(tr), replayPlans(tr, new(evict.Ghosts))
			row := "| " + tr.name
			for _, h := range []hits{replayFIFO(tr), lru, replayS3FIFO(tr, 1), replayS3FIFO(tr, 2), replayOptimum(tr), plans.hits, replayPlans(tr, nil).hits} {
				row += fmt.Sprintf(" | %.1f, %.1f", h.all.percent(), h.bytes.percent())
			}
			if row += " | "; tr.daily != nil {
				row += fmt.Sprintf("%.1f, %.1f", lru.daily.percent(), plans.daily.percent())
			}
			fmt.Println(row + " |")
		}
	}
}
