package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
)

// look reads what a teller has in a store, by all ways that there are.
func (w *teller) look(t testing.TB) state {
	t.Helper()
	s, ctx := make(state), t.Context()
	for n := range 2 {
		repo := fmt.Sprint(w.name, "/", n)
		for _, p := range w.pieces {
			info, r, err := w.d.Open(ctx, repo, p.info.Digest)
			if errors.Is(err, ErrNotFound) {
				continue
			}
			if err != nil {
				t.Errorf("Open: %v", err)
				continue
			}
			got, err := io.ReadAll(r)
			r.Close()
			if err != nil || !bytes.Equal(got, p.data) {
				t.Errorf("wrong bytes: %d of %d, %v", len(got), len(p.data), err)
			}
			s.link(repo, info)
		}
		for tag, err := range w.d.TagNames(ctx, repo, "") {
			value, terr := w.d.Tag(ctx, repo, tag)
			if err := errors.Join(err, terr); err != nil {
				t.Errorf("tag %s: %v", tag, err)
			}
			s["tag "+repo+" "+tag] = tagWord(value)
		}
		w.lookAtLists(t, repo, s)
		w.lookAtParts(t, repo, s)
	}
	for kind, word := range map[string]string{"jobs": "record ", "outbox": "outbox "} {
		for key, err := range w.d.RecordKeys(ctx, kind) {
			if err != nil {
				t.Error(err)
			}
			if strings.HasPrefix(key, w.name+".") {
				data, err := w.d.Record(ctx, kind, key)
				if err != nil {
					t.Error(err)
				}
				s[word+key] = string(data)
			}
		}
	}
	return s
}

// lookAtLists checks that the lists have the same as single calls.
func (w *teller) lookAtLists(t testing.TB, repo string, s state) {
	t.Helper()
	listed, want := make(state), make(state)
	for word, value := range s {
		if strings.HasPrefix(word, "link "+repo+" ") {
			want[word] = value
		}
	}
	for _, list := range []func(func(Info, error) bool){w.d.Manifests(t.Context(), repo), w.d.Blobs(t.Context(), repo)} {
		for info, err := range list {
			if err != nil {
				t.Error(err)
			}
			listed.link(repo, info)
			if info.Subject == "" {
				continue
			}
			found := 0
			for ref := range w.d.Referrers(t.Context(), repo, info.Subject) {
				if ref.Digest == info.Digest {
					found++
				}
			}
			if found != 1 {
				t.Errorf("%s is %d times among the referrers", info.Digest, found)
			}
		}
	}
	if !maps.Equal(listed, want) {
		t.Errorf("lists of %s: %v, want %v", repo, listed, want)
	}
}

// lookAtParts reads the progress of what can be taken up, and its bytes.
func (w *teller) lookAtParts(t testing.TB, repo string, s state) {
	t.Helper()
	for _, p := range w.pieces {
		for _, source := range []string{"https://a.example/x", "https://b.example/y"} {
			info := p.info
			info.Source = source
			sp, err := w.d.Spool(t.Context(), repo, info)
			if err != nil {
				t.Errorf("Spool: %v", err)
				continue
			}
			c := sp.(Checkpointer)
			if front := c.Progress().Front; front > 0 {
				s[fmt.Sprint("part ", repo, " ", info.Origin(), " ", info.Digest)] = fmt.Sprint(front)
				r, err := sp.Open()
				if err != nil {
					t.Error(err)
					continue
				}
				if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, p.data[:front]) {
					t.Errorf("a part has %d wrong bytes, %v", len(got), err)
				}
				r.Close()
				err = c.Keep()
				if err != nil {
					t.Error(err)
				}
			}
			if err := sp.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// losesParts forgets parts that are gone: the name of a part is not synced, so that a loss
// of power may cost it. It then is downloaded again.
// That of a spool under way is lost with a kill, too, between the rename of its file and
// the commit.
func (w *teller) losesParts(got state, all bool) {
	for _, s := range []state{w.now, w.next} {
		maps.DeleteFunc(s, func(word, _ string) bool {
			return (all || w.next != nil && word == w.taken) && strings.HasPrefix(word, "part ") && got[word] == ""
		})
	}
}

// check compares a store after a crash with what the teller knows. lost says that the
// power has gone.
func (w *teller) check(t testing.TB, lost bool) {
	t.Helper()
	got := w.look(t)
	w.losesParts(got, lost)
	if w.next != nil && maps.Equal(got, w.next) {
		w.now = w.next
	}
	w.next = nil
	if maps.Equal(got, w.now) {
		return
	}
	for _, word := range slices.Sorted(maps.Keys(w.now)) {
		if got[word] != w.now[word] {
			t.Errorf("%s: %q, want %q", word, got[word], w.now[word])
		}
	}
	for _, word := range slices.Sorted(maps.Keys(got)) {
		if _, known := w.now[word]; !known {
			t.Errorf("%s: %q, which nobody expects", word, got[word])
		}
	}
	w.now = got
}
