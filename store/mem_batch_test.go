package store

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// batchOf is a batch of every kind, whose parts depend on i.
func batchOf(i int) *Batch {
	first, data := content1(fmt.Sprint("first", i), 100+i%5)
	second, text := content1(fmt.Sprint("second", i), 3000)
	second.MediaType = "application/vnd.oci.image.manifest.v1+json"
	second.Annotations = map[string]string{"note": strings.Repeat("x", i%7)}
	second.Subject = first.Digest
	value := Tag{Descriptor: second.Descriptor, Source: "https://a.example/x", Asked: time.Unix(int64(i), 0)}
	return &Batch{
		Content: []Piece{{"a", first, data}, {"b", second, text}, {"a", second, text}, {"a", first, data}},
		Tags: []TagChange{
			{Repo: "a", Tag: "v1", Value: value, Records: []RecordChange{{"jobs", "of-a-tag", []byte("data")}, {"jobs", "twice", make([]byte, i%11)}}},
			{Repo: "a", Tag: fmt.Sprint(i), Value: value},
		},
		Deletions: []Deletion{{Repo: "b", Digest: second.Digest}},
		Records:   []RecordChange{{"jobs", fmt.Sprint(i), make([]byte, i)}, {"jobs", "twice", make([]byte, i%3)}},
	}
}

// state is what a Mem counts and has.
func (m *Mem) state() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var text []string
	for _, repo := range slices.Sorted(maps.Keys(m.repos)) {
		r := m.repos[repo]
		text = append(text, repo, fmt.Sprint(len(r.content), r.size), fmt.Sprint(slices.Sorted(maps.Keys(r.tags))))
	}
	return fmt.Sprint(m.used, len(m.blobs), len(m.kept), len(m.records["jobs"]), text)
}

func TestMemDoesABatchWholeOrNotAtAll(t *testing.T) {
	for spare := range 2 {
		m := new(Mem)
		if err := m.Apply(t.Context(), batchOf(1)); err != nil {
			t.Fatal(err)
		}
		b := batchOf(2)
		before := m.state()
		m.MaxBytes = m.used + b.memCost() - 1 + int64(spare)
		err := m.Apply(t.Context(), b)
		if after := m.state(); spare == 0 && (!errors.Is(err, ErrFull) || after != before) {
			t.Errorf("a batch that is one byte too large: %v, %s, before %s", err, after, before)
		} else if spare == 1 && (err != nil || after == before || m.used > m.MaxBytes) {
			t.Errorf("a batch that has room: %v, %s", err, after)
		}
		// What is there can go.
		m.MaxBytes = m.used
		if err := m.Apply(t.Context(), &Batch{Deletions: []Deletion{{Repo: "a", Tag: "v1"}}, Records: []RecordChange{{"jobs", "1", nil}}}); err != nil {
			t.Errorf("a batch that only deletes: %v", err)
		}
	}
	// Each kind counts.
	full := &Mem{MaxBytes: 3000}
	info, data := content1("content", 2800)
	noted, text := content1("noted", 10)
	noted.MediaType, noted.Annotations = "application/vnd.oci.image.manifest.v1+json", map[string]string{"a": strings.Repeat("x", 2800)}
	for what, b := range map[string]*Batch{
		"content":          {Content: []Piece{{"a", info, data}}},
		"annotations":      {Content: []Piece{{"a", noted, text}}},
		"a tag":            {Tags: []TagChange{{Repo: "a", Tag: "v1", Value: Tag{Descriptor: noted.Descriptor}}}},
		"records of a tag": {Tags: []TagChange{{Repo: "a", Tag: "v1", Value: Tag{Descriptor: info.Descriptor}, Records: []RecordChange{{"jobs", "a", make([]byte, 2800)}}}}},
		"records":          {Records: []RecordChange{{"jobs", "a", make([]byte, 2000)}, {"jobs", "b", make([]byte, 800)}}},
	} {
		if err := full.Apply(t.Context(), b); !errors.Is(err, ErrFull) || full.used != 0 {
			t.Errorf("%s: %v, %s", what, err, full.state())
		}
	}
}

// A batch drops what was kept of unfinished content, if it needs the room.
func TestMemBatchTakesTheRoomOfKeptSpools(t *testing.T) {
	m := new(Mem)
	info, data := content1("kept", 50000)
	s, err := m.Spool(t.Context(), "a", info)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.WriteAt(data[:40000], 0); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.(Checkpointer).Checkpoint(Progress{Front: 40000, Size: 50000}), s.(Checkpointer).Keep()); err != nil {
		t.Fatal(err)
	}
	m.MaxBytes = m.used + 100
	if err := m.Apply(t.Context(), batchOf(1)); err != nil || len(m.kept) != 0 || m.used > m.MaxBytes {
		t.Errorf("%v, %s", err, m.state())
	}
}

// TestMemCountsBatchesExactly: once all is deleted, nothing counts.
func TestMemCountsBatchesExactly(t *testing.T) {
	m := new(Mem)
	for _, i := range []int{1, 2, 30, 3, 3, 4, 17, 5} { // newer and older, and twice the same
		if err := m.Apply(t.Context(), batchOf(i)); err != nil {
			t.Fatal(err)
		}
	}
	var all Batch
	for _, repo := range []string{"a", "b"} {
		for tag := range m.TagNames(t.Context(), repo, "") {
			all.Deletions = append(all.Deletions, Deletion{Repo: repo, Tag: tag})
		}
		for _, d := range manifests(t, m, repo) {
			all.Deletions = append(all.Deletions, Deletion{Repo: repo, Digest: d})
		}
		for info := range m.Blobs(t.Context(), repo) {
			all.Deletions = append(all.Deletions, Deletion{Repo: repo, Digest: info.Digest})
		}
	}
	for key := range m.RecordKeys(t.Context(), "jobs") {
		all.Records = append(all.Records, RecordChange{"jobs", key, nil})
	}
	if err := m.Apply(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	if m.used != 0 || len(m.repos) != 0 || len(m.blobs) != 0 || len(m.records) != 0 {
		t.Errorf("an empty store: %s", m.state())
	}
}

// TestMemBatchesAtOnce fill a Mem from many sides, and it never holds too much.
func TestMemBatchesAtOnce(t *testing.T) {
	m := &Mem{MaxBytes: 40 << 10}
	done := make(chan int, 4)
	for worker := range 4 {
		go func() {
			refused := 0
			for i := range 200 {
				b := batchOf(worker*1000 + i%40)
				b.Deletions = append(b.Deletions, Deletion{Repo: "a", Tag: fmt.Sprint(worker*1000 + (i+30)%40)})
				if err := m.Apply(t.Context(), b); errors.Is(err, ErrFull) {
					refused++
				} else if err != nil {
					t.Error(err)
				}
				if s, err := m.Size(t.Context()); err != nil || s.Free < 0 || s.Overhead < 0 || s.Content+s.Overhead+s.Free != 40<<10 {
					t.Errorf("%+v, %v", s, err)
				}
			}
			done <- refused
		}()
	}
	refused := 0
	for range 4 {
		refused += <-done
	}
	if refused == 0 || refused == 800 {
		t.Errorf("%d of 800 batches were refused", refused)
	}
}

func TestMemSaysHowMuchIsFree(t *testing.T) {
	for limit, want := range map[int64]int64{0: 1 << 30, 10 << 10: 10 << 10, -1: -1} {
		m := &Mem{MaxBytes: limit}
		if s, err := m.Size(t.Context()); err != nil || s != (Size{Free: want}) {
			t.Errorf("MaxBytes %d: %+v, %v", limit, s, err)
		}
	}
}

func TestLargePieceInABatch(t *testing.T) {
	for name, s := range map[string]Batcher{"Mem": &Mem{}, "Dir": newDir(t, t.TempDir())} {
		info, data := content1("large", maxManifest+1)
		err := s.Apply(t.Context(), &Batch{Content: []Piece{{Repo: "a", Info: info, Bytes: data}}})
		if !errors.Is(err, ErrSize) {
			t.Errorf("%s: %v", name, err)
		}
		info, data = content1("largest", maxManifest)
		if err := s.Apply(t.Context(), &Batch{Content: []Piece{{Repo: "a", Info: info, Bytes: data}}}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
