package store_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/store"
)

// passing is a countingStore that counts the calls of Spool too and passes them on.
type passing struct {
	countingStore
	spooled int
}

func (p *passing) Spool(ctx context.Context, repo string, want store.Info) (store.Spool, error) {
	p.spooled++
	return p.Store.(store.Spooler).Spool(ctx, repo, want)
}

// emptyWrapper has nothing behind it.
type emptyWrapper struct{ store.Store }

func (emptyWrapper) Unwrap() store.Store { return nil }

// wantAbility fails unless As finds T in s, or does not, as wanted.
func wantAbility[T any](t *testing.T, s store.Store, want bool) {
	t.Helper()
	if _, ok := store.As[T](s); ok != want {
		t.Errorf("As[%T] of %T: %v, want %v", (*T)(nil), s, ok, want)
	}
}

// stores are those of this package.
func stores(t *testing.T) map[string]store.Store {
	return map[string]store.Store{"Mem": &store.Mem{}, "Dir": openDir(t, t.TempDir())}
}

func TestAsFindsWhatAddsSomethingThroughUnwrap(t *testing.T) {
	for name, s := range stores(t) {
		t.Run(name, func(t *testing.T) {
			w := &countingStore{Store: &countingStore{Store: s}}
			for _, s := range []store.Store{s, w} {
				wantAbility[store.Records](t, s, true)
				wantAbility[store.Deleter](t, s, true)
				wantAbility[store.Lister](t, s, true)
				wantAbility[store.ManifestLister](t, s, true)
			}
		})
	}
}

func TestAsDoesNotBypassCreate(t *testing.T) {
	for name, s := range stores(t) {
		t.Run(name, func(t *testing.T) {
			wantAbility[store.Spooler](t, s, true)
			wantAbility[store.Spooler](t, &countingStore{Store: s}, false)
			wantAbility[store.Spooler](t, &countingStore{Store: &passing{countingStore: countingStore{Store: s}}}, false)

			outer := &passing{countingStore: countingStore{Store: s}}
			spooler, ok := store.As[store.Spooler](outer)
			if !ok {
				t.Fatal("a wrapper with Spool is no Spooler")
			}
			spool, err := spooler.Spool(t.Context(), "a", infoOf("a blob"))
			if err != nil {
				t.Fatal(err)
			}
			defer spool.Close()
			if _, ok := spool.(store.Checkpointer); !ok || outer.spooled != 1 {
				t.Errorf("%d spools passed the wrapper; a Checkpointer: %v", outer.spooled, ok)
			}
		})
	}
}

// The trap that the comment of Unwrapper names.
func TestEmbeddingADirPromotesSpool(t *testing.T) {
	wantAbility[store.Spooler](t, struct{ *store.Dir }{openDir(t, t.TempDir())}, true)
}

func TestAsEndsWhereNothingIsBehind(t *testing.T) {
	wantAbility[store.Records](t, nil, false)
	wantAbility[store.Spooler](t, nil, false)
	wantAbility[store.Records](t, emptyWrapper{}, false)
	wantAbility[store.Records](t, struct{ store.Store }{&store.Mem{}}, false)
}

func infoOf(text string) store.Info {
	info := store.Info{Source: "https://registry.example/team/app"}
	info.Digest, info.Size = digest.FromString(text), int64(len(text))
	return info
}

// onlyRecords has no other ability.
type onlyRecords struct {
	store.Store
	store.Records
}

func TestLacks(t *testing.T) {
	d := openDir(t, t.TempDir())
	bare := struct{ store.Store }{d}
	all := []string{"Spooler", "Records", "Batcher", "Deleter", "Lister", "ManifestLister", "BlobLister", "UseRecorder", "Sizer"}
	for _, c := range []struct {
		name  string
		store store.Store
		want  []string
	}{
		{"a Dir", d, nil},
		{"a Mem", &store.Mem{}, nil},
		{"a wrapper with Unwrap", &countingStore{Store: d}, []string{"Spooler", "Batcher"}},
		{"a wrapper with Unwrap and Spool", &passing{countingStore: countingStore{Store: d}}, []string{"Batcher"}},
		{"a wrapper without Unwrap", bare, all},
		{"Records only", onlyRecords{bare, &store.Mem{}}, slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s == "Records" })},
		{"no store", nil, all},
	} {
		var got []string
		for _, loss := range store.Lacks(c.store) {
			ability, words, _ := strings.Cut(loss, ": ")
			if words == "" {
				t.Errorf("%q does not say what is lost", loss)
			}
			got = append(got, ability)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s lacks %q, want %q", c.name, got, c.want)
		}
	}
}
