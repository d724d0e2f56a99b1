package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// world is a machine that runs the story below.
type world struct {
	*machine
	finished []string // what the story said it had done
}

// things is what the story below writes.
type things struct {
	small, big, manifest, index Info
	data                        map[digest.Digest][]byte
}

func makeThings() things {
	s := things{data: make(map[digest.Digest][]byte)}
	add := func(text string, n int, mediaType string) Info {
		data := bytes.Repeat([]byte(text), n/len(text)+1)[:n]
		info := Info{Source: "https://a.example/x"}
		info.Digest, info.Size, info.MediaType = digest.FromBytes(data), int64(n), mediaType
		s.data[info.Digest] = data
		return info
	}
	s.small = add("small", 2000, ocispec.MediaTypeImageConfig)
	s.big = add("bigger", 80<<10, ocispec.MediaTypeImageLayerGzip)
	s.manifest = add("manifest", 500, ocispec.MediaTypeImageManifest)
	s.manifest.Subject = s.small.Digest
	s.index = add("index", 500, ocispec.MediaTypeImageIndex)
	return s
}

// story writes an image, moves a tag, adopts, deletes, and keeps a spool. done
// is told what is finished, in words that the checks know.
func story(ctx context.Context, d *Dir, s things, done func(what string)) error {
	step := func(what string, f func() error) func() error {
		return func() error {
			err := f()
			if err == nil {
				done(what)
			}
			return err
		}
	}
	create := func(repo string, info Info) error {
		w, err := d.Create(ctx, repo, info)
		if err != nil {
			return err
		}
		defer w.Close()
		if _, err := w.Write(s.data[info.Digest]); err != nil {
			return err
		}
		return w.Commit(ctx)
	}
	tag := func(info Info, at int) func() error {
		return func() error {
			err := d.SetTag(ctx, "a/b", "V1", Tag{Descriptor: info.Descriptor, Source: info.Source, Asked: asked(at)})
			if errors.Is(err, ErrStale) {
				return nil // told before the crash
			}
			return err
		}
	}
	for _, do := range []func() error{
		step("record", func() error { return d.PutRecord(ctx, "jobs", "job", []byte("one")) }),
		step("small", func() error { return create("a/b", s.small) }),
		step("big", func() error { return spoolIt(ctx, d, s.big, s.data[s.big.Digest]) }),
		step("manifest", func() error { return create("a/b", s.manifest) }),
		step("tag", tag(s.manifest, 1)),
		step("index", func() error { return create("a/b", s.index) }),
		step("tag moved", tag(s.index, 2)),
		step("adopted", func() error {
			return d.Adopt(ctx, "c", s.small, func(context.Context, io.ReadSeeker) error { return nil })
		}),
		step("record gone", func() error { return d.DeleteRecord(ctx, "jobs", "job") }),
		step("tag gone", func() error { return d.DeleteTag(ctx, "a/b", "V1") }),
		step("index gone", func() error { return d.Delete(ctx, "a/b", s.index.Digest) }),
		step("end", func() error {
			return d.Apply(ctx, &Batch{
				Content: []Piece{{Repo: "a/b", Info: s.manifest, Bytes: s.data[s.manifest.Digest]}},
				Tags: []TagChange{{Repo: "a/b", Tag: "V1", Value: Tag{Descriptor: s.manifest.Descriptor, Source: s.manifest.Source, Asked: asked(3)},
					Records: []RecordChange{{Kind: "jobs", Key: "event", Data: []byte("event")}}}},
				Records: []RecordChange{{Kind: "jobs", Key: "job"}},
			})
		}),
		step("swept", func() error { _, err := d.Sweep(ctx); return err }),
	} {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

// spoolIt writes a spool out of order, with a checkpoint and a break.
func spoolIt(ctx context.Context, d *Dir, info Info, data []byte) error {
	sp, err := d.Spool(ctx, "a/b", info)
	if err != nil {
		return err
	}
	if _, err := sp.WriteAt(data[:1000], 0); err != nil {
		return errors.Join(err, sp.Close())
	}
	c := sp.(Checkpointer)
	if err := c.Checkpoint(Progress{Front: 1000, Size: info.Size, Hash: []byte("h")}); err != nil {
		return errors.Join(err, sp.Close())
	}
	if err := c.Keep(); err != nil {
		return err
	}
	if sp, err = d.Spool(ctx, "a/b", info); err != nil {
		return err
	}
	defer sp.Close()
	for at := sp.(Checkpointer).Progress().Front; at < info.Size; at += 20000 {
		if _, err := sp.WriteAt(data[at:min(at+20000, info.Size)], at); err != nil {
			return err
		}
	}
	return sp.Commit(ctx, info)
}

// consistent is what must hold after any crash.
func consistent(t *testing.T, d *Dir, s things, finished []string) {
	ctx := t.Context()
	seen := make(map[string]bool)
	for name, info := range map[string]Info{"small": s.small, "big": s.big, "manifest": s.manifest, "index": s.index} {
		for _, repo := range []string{"a/b", "c", "a", "b"} {
			got, r, err := d.Open(ctx, repo, info.Digest)
			if errors.Is(err, ErrNotFound) {
				continue
			}
			if err != nil {
				t.Errorf("Open %s in %s: %v", name, repo, err)
				continue
			}
			data, err := io.ReadAll(r)
			r.Close()
			if err != nil || !bytes.Equal(data, s.data[info.Digest]) || got.Source != info.Source {
				t.Errorf("%s in %s: %d bytes from %q, %v", name, repo, len(data), got.Source, err)
			}
			seen[repo+" "+name] = true
		}
	}
	tag, err := d.Tag(ctx, "a/b", "V1")
	if err != nil && !errors.Is(err, ErrNotFound) {
		t.Errorf("Tag: %v", err)
	}
	implies := func(a bool, what string, b bool, that string) {
		if a && !b {
			t.Errorf("%s is there but %s is not", what, that)
		}
	}
	manifest := seen["a/b manifest"]
	implies(manifest, "the manifest", seen["a/b small"] && seen["a/b big"], "what it names")
	implies(tag.Digest == s.manifest.Digest, "the tag", manifest, "the manifest")
	implies(tag.Digest == s.index.Digest, "the moved tag", seen["a/b index"], "the index")
	has := func(what string) bool { return slices.Contains(finished, what) }
	ended := tag.Digest == s.manifest.Digest && tag.Asked.Equal(asked(3))
	implies(has("manifest"), "word of the manifest", manifest, "the manifest")
	implies(has("tag") && !has("index") && !has("tag moved"), "word of the tag", tag.Digest == s.manifest.Digest, "the tag")
	implies(has("tag moved") && !has("record gone"), "word of the moved tag", tag.Digest == s.index.Digest, "the moved tag")
	implies(has("tag gone"), "word of its end", tag.Digest == "" || ended, "the end of the tag")
	implies(has("index gone"), "word of its end", !seen["a/b index"], "the end of the index")
	implies(has("small"), "word of the small blob", seen["a/b small"], "the small blob")
	implies(has("big"), "word of the big blob", seen["a/b big"], "the big blob")
	implies(has("adopted"), "word of the adopted blob", seen["c small"], "the adopted blob")
	records := recordsOf(t, d)
	implies(has("record") && !has("adopted"), "word of the record", slices.Contains(records, "job"), "the record")
	implies(has("record gone"), "word of its end", !slices.Contains(records, "job"), "the end of the record")
	implies(has("end"), "word of the end", tag.Digest == s.manifest.Digest && len(records) == 1 && manifest, "the end")
	if event := slices.Contains(records, "event"); ended != event {
		t.Errorf("the tag of the end is there: %v, its event: %v", ended, event)
	}
	refs := 0
	for _, err := range d.Referrers(ctx, "a/b", s.small.Digest) {
		if err != nil {
			t.Error(err)
		}
		refs++
	}
	if (refs == 1) != manifest {
		t.Errorf("%d referrers, manifest there: %v", refs, manifest)
	}
}

func recordsOf(t *testing.T, d *Dir) (keys []string) {
	for key, err := range d.RecordKeys(t.Context(), "jobs") {
		if errors.Is(err, errPower) {
			break
		}
		if err != nil {
			t.Error(err)
		}
		keys = append(keys, key)
	}
	return keys
}

// TestCrash stops the world before every single step of the story, with and
// without a loss of what was not synced, and looks at what is left.
func TestCrash(t *testing.T) {
	s := makeThings()
	whole := tell(t, s, 1<<30)
	t.Logf("%d steps", whole.step)
	for stop := range whole.step {
		for name, keep := range map[string]func(n int) bool{
			"process":                nil,
			"power":                  func(int) bool { return false },
			"power but the last":     func(n int) bool { return n == 0 },
			"power but the last two": func(n int) bool { return n <= 1 },
		} {
			t.Run(fmt.Sprintf("%d %s", stop, name), func(t *testing.T) {
				t.Parallel() // they wait for the disk
				crashAt(t, s, stop, keep, rand.New(rand.NewPCG(uint64(stop), 1)))
			})
		}
	}
}

// TestPowerLoss takes the power away at a random step, with a random part of what was
// not synced. With PULLTHROUGH_CRASHES set, it does that as many times.
func TestPowerLoss(t *testing.T) {
	times := 300
	if n, err := strconv.Atoi(os.Getenv("PULLTHROUGH_CRASHES")); err == nil {
		times = n
	}
	s := makeThings()
	steps := tell(t, s, 1<<30).step
	for seed := range times {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(uint64(seed), 2))
			crashAt(t, s, random.IntN(steps), func(int) bool { return random.IntN(2) == 0 }, random)
		})
	}
}

// crashAt tells the story up to a step, loses what keep does not keep (nothing, if keep
// is nil), and looks at what is left.
func crashAt(t *testing.T, s things, stop int, keep func(n int) bool, random *rand.Rand) {
	w := tell(t, s, stop)
	if keep != nil {
		w.lose(t, random, keep)
	}
	d, err := OpenDir(w.path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.crash()
	if err := d.Rebuilt(); err != nil {
		t.Errorf("the index did not survive: %v", err)
	}
	d.disk.NoSync = true
	d.tick.work.Wait()
	consistent(t, d, s, w.finished)
	noTemps(t, d)
	if err := story(t.Context(), d, s, func(string) {}); err != nil {
		t.Errorf("life does not go on: %v", err)
	}
}

// tell runs the story up to a step, and checks what readers see then.
func tell(t *testing.T, s things, stop int) *world {
	w := &world{machine: newMachine(t.TempDir())}
	w.until(stop)
	d, err := OpenDir(w.path)
	if err != nil {
		t.Fatal(err)
	}
	d.disk.Step, d.disk.NoSync = w.hook, true
	err = story(t.Context(), d, s, func(what string) {
		if !w.over() {
			w.finished = append(w.finished, what)
		}
	})
	if err != nil && !errors.Is(err, errPower) {
		t.Fatalf("after %q: %v", w.finished, err)
	}
	consistent(t, d, s, w.finished)
	d.crash()
	return w
}

func noTemps(t *testing.T, d *Dir) {
	names, err := readNames(d.path("partial"))
	if err != nil {
		t.Error(err)
	}
	for _, name := range names {
		if !strings.HasSuffix(name, partSuffix) {
			t.Errorf("partial/%s is left", name)
		}
	}
}

func asked(n int) time.Time { return time.Date(2026, 1, 1, 0, 0, n, 0, time.UTC) }
