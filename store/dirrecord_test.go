package store

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
)

func recordMap(t *testing.T, s Records) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for key, err := range s.RecordKeys(t.Context(), "jobs") {
		if err != nil {
			t.Error(err)
		}
		data, err := s.Record(t.Context(), "jobs", key)
		if err != nil {
			t.Error(err)
		}
		all[key] = string(data)
	}
	return all
}

func wantRecords(t *testing.T, s Records, want map[string]string) {
	t.Helper()
	if got := recordMap(t, s); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func putRecord(t *testing.T, s Records, key, data string) {
	t.Helper()
	if err := s.PutRecord(t.Context(), "jobs", key, []byte(data)); err != nil {
		t.Fatal(err)
	}
}

// A log that is cut anywhere has the records before the cut, and goes on.
func TestLogCutAnywhere(t *testing.T) {
	path := t.TempDir()
	d, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	putRecord(t, d, "a", "one\nput b 1 00000000\n")
	putRecord(t, d, "b", "two")
	putRecord(t, d, "a", "three")
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	log := path + "/records/jobs.log"
	whole, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	first := bytes.Index(whole, []byte("put b 3"))
	second := bytes.Index(whole, []byte("put a 5"))
	d = newDir(t, path)
	for _, fill := range []byte{'x', 0} {
		for cut := range len(whole) + 1 {
			d.logs = make(map[string]*recordLog)
			text := append(bytes.Clone(whole[:cut]), bytes.Repeat([]byte{fill}, 5)...)
			if err := os.WriteFile(log, text, 0o600); err != nil {
				t.Fatal(err)
			}
			want := map[string]string{}
			// The first one was marked as deleted when its key was put again.
			if cut >= second {
				want["b"] = "two"
			}
			if cut == len(whole) {
				want["a"] = "three"
			}
			if cut < first && len(want) > 0 {
				t.Fatal("the test is wrong")
			}
			wantRecords(t, d, want)
			putRecord(t, d, "c", "four")
			want["c"] = "four"
			d.logs["jobs"].close()
			d.logs = make(map[string]*recordLog)
			wantRecords(t, d, want)
			d.logs["jobs"].close()
		}
	}
	d.logs = make(map[string]*recordLog)
}

func TestLogDoesNotGrowForEver(t *testing.T) {
	path := t.TempDir()
	d := newDir(t, path)
	big := strings.Repeat("x", 100<<10)
	putRecord(t, d, "stays", "here")
	for i := range 100 {
		putRecord(t, d, fmt.Sprint(i%3), big)
	}
	if st, err := os.Stat(path + "/records/jobs.log"); err != nil || st.Size() > 3*logSlack {
		t.Errorf("%d bytes, %v", st.Size(), err)
	}
	want := map[string]string{"stays": "here", "0": big, "1": big, "2": big}
	wantRecords(t, d, want)
	for i := range 3 {
		if err := d.DeleteRecord(t.Context(), "jobs", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 { // nothing is left but what is deleted at once
		putRecord(t, d, "stays", big)
		if err := d.DeleteRecord(t.Context(), "jobs", "stays"); err != nil {
			t.Fatal(err)
		}
	}
	putRecord(t, d, "last", "one")
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	wantRecords(t, newDir(t, path), map[string]string{"last": "one"})
}
