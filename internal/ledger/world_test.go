package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/internal/ledger"
	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

const repo = "app/api"

var (
	source    = upstream.Source{Rule: "team", Host: "registry.example.com", Repository: "team/api"}
	errOwn    = errors.New("the copy's own failure")
	errHost   = errors.New("trouble of the host")
	errFull   = errors.New("the store is full")
	errGone   = errors.New("the rule is gone")
	errClosed = errors.New("the ledger was closed")
)

// world is a ledger in a bubble, whose worker does what the test says and notes what it
// did.
type world struct {
	*testing.T
	cfg    ledger.Config
	store  *store.Mem
	ledger *ledger.Ledger
	logs   bytes.Buffer

	mu     sync.Mutex
	runs   []string            // names of the jobs that were done, in order
	errs   map[string]error    // what doing a job comes to, by name
	stored map[ledger.Key]bool // manifests
	gate   chan struct{}       // not nil: a run waits for it
	moved  []string            // "ID tag", in order
	parked []ledger.Copy
	alone  bool

	gateAlone chan struct{} // if not nil, Alone waits for it
}

// inBubble runs a story.
func inBubble(t *testing.T, story func(w *world), setup ...func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, errs: map[string]error{}, stored: map[ledger.Key]bool{}, store: &store.Mem{}}
		w.cfg = ledger.Config{
			Worker: w, Records: w.store, NotFound: store.ErrNotFound, AtOnce: 2, Most: 100, Memory: 1 << 20, Wait: 24 * time.Hour,
			Parked: func(c ledger.Copy) { w.parked = append(w.parked, c) }, Closed: errClosed, Log: slog.New(slog.NewTextHandler(&w.logs, nil)),
			Alone: func(context.Context, ledger.Job, time.Time) bool {
				if w.gateAlone != nil {
					<-w.gateAlone
				}
				return w.alone
			},
		}
		for _, f := range setup {
			f(w)
		}
		w.start()
		defer func() { w.ledger.Close() }()
		story(w)
	})
}

func (w *world) start() {
	w.ledger = ledger.New(w.cfg)
	w.ledger.Start()
	synctest.Wait()
}

// restart is the end of the process and the next one.
func (w *world) restart() {
	w.ledger.Close()
	w.start()
}

func name(j ledger.Job) string { return j.Digest.Encoded()[:6] }

// Do is a copy without content: an index needs a stored image.
func (w *world) Do(ctx context.Context, r *ledger.Run) error {
	w.mu.Lock()
	err, gate := w.errs[name(r.Job)], w.gate
	w.runs = append(w.runs, name(r.Job))
	stored := w.stored[r.Job.Key()]
	w.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err != nil && !stored {
		return err
	}
	if r.Manifest.Parsed.Index && !slices.ContainsFunc(r.Manifest.Parsed.Children(), func(d ocispec.Descriptor) bool { return w.has(ledger.Key{Repository: repo, Digest: d.Digest}) }) {
		return ledger.ErrWaiting
	}
	w.put(r.Job.Key())
	r.Completed()
	for tags := r.TagsLeft(); len(tags) > 0; tags = r.TagsLeft() {
		for _, t := range tags {
			w.owe(ctx, r, t)
			r.Moved(t)
			w.mu.Lock()
			w.moved = append(w.moved, r.Job.ID+" "+t.Name)
			w.mu.Unlock()
		}
	}
	return nil
}

// owe notes in the record of a job that the event of a tag is due.
func (w *world) owe(ctx context.Context, r *ledger.Run, t ledger.Tag) {
	held := r.Hold(ctx)
	if held == nil {
		return
	}
	defer held.Release()
	c, err := held.Owing(t)
	if err == nil {
		err = w.store.PutRecord(ctx, c.Kind, c.Key, c.Data)
	}
	if err != nil {
		w.Error(err)
	}
	r.Owes(t)
}

func (w *world) has(k ledger.Key) bool { w.mu.Lock(); defer w.mu.Unlock(); return w.stored[k] }
func (w *world) put(k ledger.Key)      { w.mu.Lock(); defer w.mu.Unlock(); w.stored[k] = true }

// Look finds what was stored by somebody else.
func (w *world) Look(_ context.Context, r *ledger.Run) (ledger.Fate, error) {
	if !w.has(r.Job.Key()) {
		return ledger.Pending, nil
	}
	for _, t := range r.TagsLeft() {
		r.Moved(t)
		w.mu.Lock()
		w.moved = append(w.moved, r.Job.ID+" "+t.Name)
		w.mu.Unlock()
	}
	return ledger.Finished, nil
}

// Judge parks a copy after three failures of its own.
func (w *world) Judge(job ledger.Job, failures int, err error) ledger.Verdict {
	own := errors.Is(err, errOwn)
	return ledger.Verdict{GiveUp: errors.Is(err, errGone), Own: own, Full: errors.Is(err, errFull), Park: own && job.Attempts >= 2, Pause: time.Minute}
}

func image(n int) *oci.Content {
	return content(ocispec.MediaTypeImageManifest, fmt.Sprintf(`{"config":{"mediaType":"c","digest":"%s","size":1},"layers":[{"mediaType":"l","digest":"%s","size":%d}]}`,
		digest.FromString(fmt.Sprint("config", n)), layer(n), n))
}

func layer(n int) digest.Digest { return digest.FromString(fmt.Sprint("layer", n)) }

func index(images ...*oci.Content) *oci.Content {
	var list []string
	for _, m := range images {
		list = append(list, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":1}`, m.MediaType, m.Digest))
	}
	return content(ocispec.MediaTypeImageIndex, `{"manifests":[`+strings.Join(list, ",")+`]}`)
}

func content(mediaType, body string) *oci.Content {
	return oci.NewContent(ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromString(body), Size: int64(len(body))}, []byte(body), "")
}

func key(m *oci.Content) ledger.Key { return ledger.Key{Repository: repo, Digest: m.Digest} }

// facts say whether the manifest is stored, and that no layer is.
func (w *world) facts(m *oci.Content) func(bool) ledger.Facts {
	return func(layers bool) ledger.Facts {
		f := ledger.Facts{Stored: w.has(key(m))}
		if layers {
			f.Layers = map[digest.Digest]bool{}
			for _, l := range m.Parsed.Layers {
				f.Layers[l.Digest] = true
			}
		}
		return f
	}
}

// add adds the copy job of a manifest, with tags that were seen just now.
func (w *world) add(m *oci.Content, tags ...string) *ledger.Handle {
	w.Helper()
	return w.addJob(m, ledger.Job{}, tags...)
}

func (w *world) addJob(m *oci.Content, job ledger.Job, tags ...string) *ledger.Handle {
	w.Helper()
	job.Repository = repo
	if job.Source.Rule == "" {
		job.Source = source
	}
	for _, t := range tags {
		job.Tags = append(job.Tags, ledger.Tag{Name: t, Seen: time.Now(), EventDue: true})
	}
	h, err := w.ledger.Add(w.Context(), nil, m, job, w.facts(m))
	if err != nil {
		w.Fatal(err)
	}
	h.Recorded(w.Context())
	synctest.Wait()
	return h
}

// comesTo says what doing a job comes to from now on.
func (w *world) comesTo(m *oci.Content, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.errs[m.Digest.Encoded()[:6]] = err
}

func (w *world) pass(d time.Duration) { time.Sleep(d); synctest.Wait() }

// ran is how many runs there were.
func (w *world) ran() int { w.mu.Lock(); defer w.mu.Unlock(); return len(w.runs) }

// until lets time pass until something is so.
func (w *world) until(so func() bool) {
	w.Helper()
	for range 3600 {
		if so() {
			return
		}
		w.pass(time.Second)
	}
	w.Fatal("it does not become so within an hour")
}

// hold makes runs wait for what it returns.
func (w *world) hold() (release func()) {
	gate := make(chan struct{})
	w.mu.Lock()
	w.gate = gate
	w.mu.Unlock()
	return func() {
		w.mu.Lock()
		w.gate = nil
		w.mu.Unlock()
		close(gate)
		synctest.Wait()
	}
}

// state is the state of a copy job; empty if there is none.
func (w *world) state(m *oci.Content) ledger.State {
	for _, c := range w.ledger.Copies(repo) {
		if c.Job.Digest == m.Digest {
			return c.State
		}
	}
	return ""
}

// want checks the state of a copy job, how many runs there were in all, and that there
// is a record for each job that is known.
func (w *world) want(m *oci.Content, state ledger.State, runs int) {
	w.Helper()
	n := w.ran()
	if got := w.state(m); got != state || n != runs {
		w.Fatalf("state %q after %d runs, want %q after %d", got, n, state, runs)
	}
	w.wantRecords()
}

func (w *world) wantRecords() {
	w.Helper()
	keys := 0
	for range w.store.RecordKeys(w.Context(), "jobs") {
		keys++
	}
	if keys != w.ledger.Len() {
		w.Fatalf("%d records for %d copy jobs", keys, w.ledger.Len())
	}
}

// wantMoved checks which tags moved, in order.
func (w *world) wantMoved(tags ...string) {
	w.Helper()
	var got []string
	for _, m := range w.moved {
		_, tag, _ := strings.Cut(m, " ")
		got = append(got, tag)
	}
	if !slices.Equal(got, tags) {
		w.Fatalf("moved %v, want %v", got, tags)
	}
}
