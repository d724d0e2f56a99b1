package store

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// faults are the problems that a check finds, sorted.
func faults(t *testing.T, d *Dir, o CheckOptions) (list []string) {
	t.Helper()
	o.Rate = -1
	if err := d.Check(t.Context(), o, func(f Fault) { list = append(list, f.String()) }); err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return list
}

func TestCheckFindsAndRepairs(t *testing.T) {
	d := newDir(t, t.TempDir())
	manifest, text := content1("manifest", 300)
	manifest.MediaType = "application/vnd.oci.image.manifest.v1+json"
	small, smallData := content1("small", 5000)
	big, bigData := content1("big", 100<<10)
	cut, cutData := content1("cut", 90<<10)
	lost, lostData := content1("lost", 80<<10)
	stray, strayData := content1("stray", 70<<10)
	fill := func() {
		t.Helper()
		for _, err := range []error{
			create(t, d, "a", small, smallData), create(t, d, "a", big, bigData), create(t, d, "b/c", big, bigData),
			create(t, d, "a", cut, cutData), create(t, d, "b/c", lost, lostData),
			create(t, d, "a", manifest, text), create(t, d, "z", manifest, text),
			d.SetTag(t.Context(), "a", "v1", Tag{Descriptor: manifest.Descriptor}),
			d.SetTag(t.Context(), "z", "v2", Tag{Descriptor: manifest.Descriptor}),
			d.PutRecord(t.Context(), "jobs", "j", []byte("something")),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if got := faults(t, d, CheckOptions{}); len(got) != 0 {
			t.Fatalf("a store without damage: %q", got)
		}
	}
	fill()
	path := func(i Info) string { c, _ := contentOf(i.Digest); return d.blobPath(c) }
	c, _ := contentOf(manifest.Digest)
	s, _ := contentOf(small.Digest)
	damaged := slices.Clone(bigData)
	damaged[50000] ^= 1
	strayPath := path(stray)
	if err := errors.Join(os.WriteFile(path(big), damaged, 0o600), os.Truncate(path(cut), 10), os.Remove(path(lost)),
		os.MkdirAll(strayPath[:len(strayPath)-64], 0o700), os.WriteFile(strayPath, strayData, 0o600)); err != nil {
		t.Fatal(err)
	}
	d = spoil(t, d, "repos", linkKey("z", keyManifest, c))
	var number []byte
	_ = d.view(func(t dirTx) error { b, _ := t.blob(s); number = numberKey(b.number); return nil })
	d = spoil(t, d, "bytes", number)
	d.tick.work.Wait() // an OpenDir after a crash sweeps by itself
	want := []string{
		"index.db: an entry of bytes does not match its checksum",
		"index.db: an entry of repos does not match its checksum",
		big.Digest.String() + ": its file is damaged",
		cut.Digest.String() + ": its file has 10 bytes instead of 92160",
		lost.Digest.String() + ": its file is not there",
		small.Digest.String() + ": its bytes are damaged",
		stray.Digest.String() + ": nothing links its file",
		"z: its size was not counted right",
		"z:v2: " + manifest.Digest.String() + ": the tag points to what is not there",
	}
	got := faults(t, d, CheckOptions{})
	for i, f := range got {
		if strings.HasPrefix(f, "z: index.db") {
			got[i] = strings.TrimPrefix(f, "z: ")
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, f := range faults(t, d, CheckOptions{Repair: true}) {
		if !strings.HasSuffix(f, " (repaired)") {
			t.Errorf("not repaired: %s", f)
		}
	}
	if got := faults(t, d, CheckOptions{}); len(got) != 0 {
		t.Errorf("after the repair: %q", got)
	}
	for _, i := range []Info{big, cut, lost, small} {
		wantMissing(t, d, "a", i.Digest)
		wantMissing(t, d, "b/c", i.Digest)
	}
	wantBlob(t, d, "a", manifest.Digest, text)
	fill()
	size, err := d.Size(t.Context())
	if want := int64(300 + 5000 + (100+90+80)<<10); err != nil || size.Content != want {
		t.Errorf("Size: %d, %v, want %d", size.Content, err, want)
	}
}

// A check reads no faster than it may, and ends with its context.
func TestCheckIsPaced(t *testing.T) {
	path := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d := newDir(t, path)
		for _, text := range []string{"one", "two", "three"} {
			info, data := content1(text, 1<<20)
			if err := create(t, d, "a", info, data); err != nil {
				t.Fatal(err)
			}
		}
		begun := time.Now()
		if err := d.Check(t.Context(), CheckOptions{Rate: 1 << 20}, func(f Fault) { t.Error(f) }); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took != 3*time.Second {
			t.Errorf("3 MiB took %v at 1 MiB in a second", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second+time.Millisecond)
		defer cancel()
		if err := d.Check(ctx, CheckOptions{Rate: 1 << 20}, func(f Fault) { t.Error(f) }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after its time: %v", err)
		}
	})
}

// logged is a log that may be read while it is written.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestCheckInTheBackground(t *testing.T) {
	path := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var log logged
		open := func() *Dir {
			d, err := OpenDir(path)
			if err != nil {
				t.Fatal(err)
			}
			d.CheckEvery, d.Logger = 24*time.Hour, slog.New(slog.NewTextHandler(&log, nil))
			return d
		}
		d := open()
		info, data := content1("big", 100<<10)
		if err := create(t, d, "a", info, data); err != nil {
			t.Fatal(err)
		}
		time.Sleep(90 * time.Minute) // it was never checked
		synctest.Wait()
		if n := strings.Count(log.String(), "the store was checked"); n != 1 {
			t.Fatalf("%d checks: %s", n, log.String())
		}
		c, _ := contentOf(info.Digest)
		if err := errors.Join(os.Truncate(d.blobPath(c), 10), d.Close()); err != nil {
			t.Fatal(err)
		}
		d = open()
		time.Sleep(22 * time.Hour)
		synctest.Wait()
		wantNothing(t, d, "a", info.Digest)
		if strings.Contains(log.String(), "damaged") {
			t.Errorf("too early: %s", log.String())
		}
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if !strings.Contains(log.String(), "its file has 10 bytes instead of 102400 (repaired)") {
			t.Errorf("no check after a day: %s", log.String())
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
}
