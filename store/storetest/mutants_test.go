package storetest_test

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/store/storetest"
)

// mutant is a way to break a store.
type mutant struct {
	name   string
	damage func(b *broken)
}

// TestMutants proves that the checks work: every broken store is caught, and every check
// catches one.
func TestMutants(t *testing.T) {
	checks := storetest.Checks()
	var (
		mu     sync.Mutex
		caught = make(map[string][]string) // by check
	)
	t.Run("each", func(t *testing.T) {
		for _, m := range slices.Concat(contentMutants(), adoptMutants(), tagMutants(), spoolMutants(), sizeMutants(), recordMutants(), listMutants(), manifestMutants(),
			blobListMutants(), batchMutants(), useMutants(), spaceMutants()) {
			t.Run(m.name, func(t *testing.T) {
				t.Parallel()
				n := 0
				for _, c := range checks {
					mu.Lock()
					known := n > 0 && len(caught[c.Name]) > 0
					mu.Unlock()
					if known {
						continue // this mutant and this check have proven themselves
					}
					b := &broken{Mem: new(store.Mem)}
					m.damage(b)
					err := c.Func(t.Context(), b)
					if err == nil {
						continue
					}
					if errors.Is(err, errors.ErrUnsupported) {
						t.Errorf("%s: skipped: %v", c.Name, err)
						continue
					}
					t.Logf("%s: %v", c.Name, err)
					n++
					mu.Lock()
					caught[c.Name] = append(caught[c.Name], m.name)
					mu.Unlock()
				}
				if n == 0 {
					t.Error("no check catches this store")
				}
			})
		}
	})
	for _, c := range checks {
		if len(caught[c.Name]) == 0 {
			t.Errorf("the check %s catches no broken store", c.Name)
		}
	}
}

// TestHonestStorePasses: the harness does not break a store.
func TestHonestStorePasses(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return &broken{Mem: new(store.Mem)} })
}

// contentOnly has no optional ability.
type contentOnly struct{ store.Store }

func TestAbilitiesAreSkipped(t *testing.T) {
	skipped := 0
	for _, c := range storetest.Checks() {
		err := c.Func(t.Context(), contentOnly{new(store.Mem)})
		if errors.Is(err, errors.ErrUnsupported) {
			skipped++
		} else if err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
	if skipped == 0 || skipped == len(storetest.Checks()) {
		t.Errorf("%d of %d checks were skipped", skipped, len(storetest.Checks()))
	}
}
