package cache_test

import (
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook"
)

// tree is every file of a folder with its size and when it was changed.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil {
			all[path] = fmt.Sprint(info.Size(), info.ModTime().UnixNano())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// noRecords waits until no record of these kinds is left.
func (s *story) noRecords(kinds ...string) {
	s.Helper()
	r, ok := store.As[store.Records](s.cache.Store)
	if !ok {
		s.Fatal("the store keeps no records")
	}
	deadline := time.Now().Add(time.Minute)
	for _, kind := range kinds {
		for left := 1; left > 0; {
			left = 0
			for range r.RecordKeys(s.Context(), kind) {
				left++
			}
			if time.Now().After(deadline) {
				s.Fatalf("%d records of %s are left", left, kind)
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// What is here and unchanged costs no write, whoever pulls it how often.
func TestWarmPullWritesNothing(t *testing.T) {
	path := t.TempDir()
	s := newStory(t, func(s *story) {
		dir, err := store.OpenDir(path)
		if err != nil {
			t.Fatal(err)
		}
		s.Cleanup(func() { _ = dir.Close() })
		outbox := &webhook.Outbox{Records: dir, Receivers: []webhook.Receiver{{Name: "test", Sink: s.cache.Events}}}
		s.Cleanup(func() { _ = outbox.Shutdown(t.Context()) })
		s.cache.Store, s.cache.Events = dir, outbox
	})
	img := s.up.AddMultiPlatform("team/api", "v1", upstreamtest.Layers(2, 1000), "amd64", "arm64")
	pull := func() {
		s.wantManifest("app/api", "v1", img)
		s.pull("app/api", img.Children[0].Digest.String(), img.Children[0])
		s.settle()
	}
	pull()
	s.noRecords("jobs", "outbox")
	before := tree(t, path)
	for range 20 {
		pull()
	}
	if after := tree(t, path); !maps.Equal(before, after) {
		for name, was := range before {
			if after[name] != was {
				t.Errorf("%s was written", name)
			}
		}
		t.Errorf("%d files, %d before", len(after), len(before))
	}
}
