package recordset

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
)

var (
	errMissing = errors.New("no such record")
	errDisk    = errors.New("the disk is broken")
)

// memory is a Records that fails where a test wants it to.
type memory struct {
	mu     sync.Mutex
	data   map[string]string
	listed []string               // keys that are listed beside those that are there
	read   func(key string) error // if not nil, called before a record is read
	list   error                  // ends each listing
}

func (m *memory) PutRecord(_ context.Context, kind, key string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.data == nil {
		m.data = map[string]string{}
	}
	m.data[kind+"/"+key] = string(data)
	return nil
}

func (m *memory) Record(_ context.Context, kind, key string) ([]byte, error) {
	if m.read != nil {
		if err := m.read(key); err != nil {
			return nil, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.data[kind+"/"+key]
	if !ok {
		return nil, errMissing
	}
	return []byte(data), nil
}

func (m *memory) DeleteRecord(_ context.Context, kind, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.data, kind+"/"+key)
	return nil
}

func (m *memory) RecordKeys(_ context.Context, kind string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		m.mu.Lock()
		keys := slices.Sorted(maps.Keys(m.data))
		m.mu.Unlock()
		for _, key := range keys {
			if name, ok := strings.CutPrefix(key, kind+"/"); ok && !yield(name, nil) {
				return
			}
		}
		for _, key := range m.listed {
			if !yield(key, nil) {
				return
			}
		}
		if m.list != nil {
			yield("", m.list)
		}
	}
}

// pet is a value whose key is made of its name.
type pet struct {
	Name string `json:"name"`
	Legs int    `json:"legs,omitempty"`
}

func pets(m *memory) *Set[pet] {
	return &Set[pet]{Records: m, Kind: "pets", NotFound: errMissing, Check: func(key string, p pet) error {
		if key != Key("pet", p.Name) {
			return errors.New("it has another name")
		}
		return nil
	}}
}

// load returns the names of what was read, and what could not be read by key.
func load(t *testing.T, s *Set[pet]) (names []string, damaged map[string]error, err error) {
	t.Helper()
	damaged = map[string]error{}
	err = s.Load(t.Context(), func(key string, p pet, err error) {
		if err != nil {
			damaged[key] = err
			if p != (pet{}) {
				t.Errorf("%v with %v", p, err)
			}
			return
		}
		names = append(names, p.Name)
	})
	slices.Sort(names)
	return names, damaged, err
}

func put(t *testing.T, s *Set[pet], names ...string) {
	t.Helper()
	for _, name := range names {
		if err := s.Put(t.Context(), Key("pet", name), pet{name, 4}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPutGetDelete(t *testing.T) {
	s := pets(&memory{})
	put(t, s, "cat", "dog")
	got, err := s.Get(t.Context(), Key("pet", "cat"))
	if want := (pet{"cat", 4}); got != want || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	if err := s.Put(t.Context(), Key("pet", "cat"), pet{"cat", 3}); err != nil {
		t.Error(err)
	}
	if got, _ := s.Get(t.Context(), Key("pet", "cat")); got.Legs != 3 {
		t.Errorf("a second write left %v", got)
	}
	for range 2 {
		if err := s.Delete(t.Context(), Key("pet", "cat")); err != nil {
			t.Error(err)
		}
	}
	if got, err := s.Get(t.Context(), Key("pet", "cat")); got != (pet{}) || !errors.Is(err, errMissing) || errors.Is(err, ErrDamaged) {
		t.Errorf("%v, %v", got, err)
	}
	if names, damaged, err := load(t, s); !slices.Equal(names, []string{"dog"}) || len(damaged) != 0 || err != nil {
		t.Errorf("%q, %v, %v", names, damaged, err)
	}
}

func TestPutWhatIsNoJSON(t *testing.T) {
	m := &memory{}
	s := &Set[func()]{Records: m, Kind: "pets"}
	if err := s.Put(t.Context(), "key", func() {}); err == nil || !strings.Contains(err.Error(), "pets/key") || len(m.data) != 0 {
		t.Errorf("%v; %v was written", err, m.data)
	}
}

// Keys must not change: what an older version wrote is found again.
func TestKey(t *testing.T) {
	for want, names := range map[string][]string{
		"e3b0c44298fc1c149afbf4c8996fb924": {},
		"77af778b51abd4a3c51c5ddd97204a9c": {"cat"},
		"e004e7ac77d33a357d7e5da20d413a4c": {"library/alpine", "sha256:abc"},
	} {
		if got := Key(names...); got != want {
			t.Errorf("Key(%q) = %s, want %s", names, got, want)
		}
	}
	if Key("a", "b") == Key("ab") || Key("a", "b") == Key("b", "a") || Key("a") == Key("a", "") {
		t.Error("different names have one key")
	}
}

func TestDamagedRecordsAreReported(t *testing.T) {
	m := &memory{}
	s := pets(m)
	put(t, s, "cat", "dog", "hen", "pig", "cow", "fox")
	whole := m.data["pets/"+Key("pet", "cow")]
	for name, document := range map[string]string{"cat": "", "dog": `{"name":`, "hen": whole, "pig": "null", "cow": `{"name":7}`} {
		m.data["pets/"+Key("pet", name)] = document
	}
	names, damaged, err := load(t, s)
	if !slices.Equal(names, []string{"fox"}) || len(damaged) != 5 || err != nil {
		t.Errorf("%q, %v, %v", names, damaged, err)
	}
	for key, err := range damaged {
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "pets/"+key) {
			t.Errorf("%s: %v", key, err)
		}
	}
	if err := damaged[Key("pet", "hen")]; err == nil || !strings.Contains(err.Error(), "another name") {
		t.Errorf("a value under the key of another one: %v", err)
	}
	if len(m.data) != 6 {
		t.Errorf("%d records are left", len(m.data))
	}
}

// An error of the store says nothing about the record, which may be whole.
func TestUnreadableRecordsAreNotDamaged(t *testing.T) {
	m := &memory{}
	s := pets(m)
	put(t, s, "cat", "dog")
	m.read = func(key string) error {
		if key == Key("pet", "cat") {
			return errDisk
		}
		return nil
	}
	names, failed, err := load(t, s)
	got := failed[Key("pet", "cat")]
	if !slices.Equal(names, []string{"dog"}) || err != nil || len(failed) != 1 || !errors.Is(got, errDisk) || errors.Is(got, ErrDamaged) {
		t.Errorf("%q, %v, %v", names, failed, err)
	}
}

func TestWithoutCheckEveryValueBelongs(t *testing.T) {
	m := &memory{}
	s := pets(m)
	s.Check = nil
	if err := s.Put(t.Context(), "any", pet{Name: "cat"}); err != nil {
		t.Error(err)
	}
	if got, err := s.Get(t.Context(), "any"); got.Name != "cat" || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}

func TestVanishedRecordsAreSkipped(t *testing.T) {
	m := &memory{listed: []string{"gone"}}
	s := pets(m)
	put(t, s, "cat")
	if names, failed, err := load(t, s); !slices.Equal(names, []string{"cat"}) || len(failed) != 0 || err != nil {
		t.Errorf("%q, %v, %v", names, failed, err)
	}
	s.NotFound = nil // what its error is, is not known
	if _, failed, err := load(t, s); !errors.Is(failed["gone"], errMissing) || err != nil {
		t.Errorf("%v, %v", failed, err)
	}
}

func TestListingFails(t *testing.T) {
	m := &memory{list: errDisk}
	s := pets(m)
	put(t, s, "cat")
	names, failed, err := load(t, s)
	if !slices.Equal(names, []string{"cat"}) || len(failed) != 0 || !errors.Is(err, errDisk) || !strings.Contains(err.Error(), "pets") {
		t.Errorf("%q, %v, %v", names, failed, err)
	}
}

func TestContextEndsALoad(t *testing.T) {
	errStop := errors.New("it was stopped")
	for name, when := range map[string]string{"between two records": "each", "while one is read": "read", "before": "before", "after the last": "last"} {
		m := &memory{}
		s := pets(m)
		put(t, s, "cat", "dog")
		ctx, cancel := context.WithCancelCause(t.Context())
		switch when {
		case "read":
			m.read = func(string) error { cancel(errStop); return ctx.Err() }
		case "before":
			cancel(errStop)
		}
		n := 0
		err := s.Load(ctx, func(_ string, _ pet, err error) {
			if n++; err != nil {
				t.Errorf("%s: told of %v", name, err)
			}
			if when == "each" || when == "last" && n == 2 {
				cancel(errStop)
			}
		})
		cancel(nil)
		if want := map[string]int{"each": 1, "last": 2}[when]; n != want || !errors.Is(err, errStop) {
			t.Errorf("%s: %d records, %v", name, n, err)
		}
	}
}

// A store may end its own listing when the context ends.
func TestListingThatEndsWithItsContext(t *testing.T) {
	m := &memory{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m.list = ctx.Err()
	err := pets(m).Load(ctx, func(string, pet, error) { t.Error("there is none") })
	if !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "listed") {
		t.Errorf("%v", err)
	}
}

func TestRecordsMayBeDeletedWhileTheyAreLoaded(t *testing.T) {
	m := &memory{}
	s := pets(m)
	put(t, s, "cat", "dog")
	err := s.Load(t.Context(), func(key string, _ pet, _ error) {
		if err := s.Delete(t.Context(), key); err != nil {
			t.Error(err)
		}
	})
	if err != nil || len(m.data) != 0 {
		t.Errorf("%v; %v is left", err, m.data)
	}
}

func TestKindsAreApart(t *testing.T) {
	m := &memory{}
	s, other := pets(m), pets(m)
	other.Kind = "strays"
	put(t, s, "cat")
	put(t, other, "dog")
	if names, _, err := load(t, s); !slices.Equal(names, []string{"cat"}) || err != nil {
		t.Errorf("%q, %v", names, err)
	}
}

// Whatever a disk gives back is either damaged or a value that belongs to its key.
func FuzzGet(f *testing.F) {
	for _, document := range []string{``, `null`, `{`, `[]`, `{"name":"cat","legs":4}`, `{"name":"cat","legs":4}{}`, `{"name":"cat","legs":"4"}`, `{"NAME":"cat"}`, "{\"name\":\"\xff\"}", `{"name":"cat","more":{"a":1}}`} {
		f.Add([]byte(document))
	}
	key := Key("pet", "cat")
	f.Fuzz(func(t *testing.T, document []byte) {
		m := &memory{}
		s := pets(m)
		if err := m.PutRecord(t.Context(), "pets", key, document); err != nil {
			t.Fatal(err)
		}
		got, err := s.Get(t.Context(), key)
		if err != nil {
			if got != (pet{}) || !errors.Is(err, ErrDamaged) {
				t.Fatalf("%v, %v", got, err)
			}
			return
		}
		if got.Name != "cat" || !json.Valid(document) {
			t.Fatalf("%q was read as %v", document, got)
		}
		if err := s.Put(t.Context(), key, got); err != nil {
			t.Fatal(err)
		}
		if again, err := s.Get(t.Context(), key); again != got || err != nil {
			t.Fatalf("%v came back as %v, %v", got, again, err)
		}
	})
}
