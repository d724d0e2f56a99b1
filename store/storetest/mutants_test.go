package storetest_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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
	c := caught{by: make(map[string]string)}
	t.Run("each", func(t *testing.T) {
		for _, m := range slices.Concat(contentMutants(), adoptMutants(), tagMutants(), spoolMutants(), sizeMutants(), recordMutants(), listMutants(), manifestMutants(),
			blobListMutants(), batchMutants(), useMutants(), spaceMutants()) {
			t.Run(m.name, func(t *testing.T) {
				t.Parallel()
				if !c.prove(t, checks, m) {
					t.Error("no check catches this store")
				}
			})
		}
	})
	for _, check := range checks {
		if !c.proven(check) {
			t.Errorf("the check %s catches no broken store", check.Name)
		}
	}
}

// caught says which mutant a check has caught first.
type caught struct {
	mu sync.Mutex
	by map[string]string // by the name of the check
}

func (c *caught) proven(check storetest.Check) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.by[check.Name] != ""
}

// prove lets checks catch a mutant: first those that have caught none, then the others
// until one does.
func (c *caught) prove(t *testing.T, checks []storetest.Check, m mutant) (yes bool) {
	var rest []storetest.Check
	for _, check := range checks {
		if c.proven(check) {
			rest = append(rest, check)
		} else if c.try(t, check, m) {
			yes = true
		}
	}
	for _, check := range rest {
		yes = yes || c.try(t, check, m)
	}
	return yes
}

// try reports whether a check catches a mutant.
func (c *caught) try(t *testing.T, check storetest.Check, m mutant) bool {
	b := &broken{Mem: new(store.Mem)}
	m.damage(b)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // for those that block
	defer cancel()
	err := check.Func(ctx, b)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("%s: skipped: %v", check.Name, err)
		return false
	}
	if err == nil {
		return false
	}
	t.Logf("%s: %v", check.Name, err)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.by[check.Name] = m.name
	return true
}

// TestHonestStorePasses: the harness does not break a store.
func TestHonestStorePasses(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return &broken{Mem: new(store.Mem)} })
}

// TestSlowStorePasses: to be slow breaks no law.
func TestSlowStorePasses(t *testing.T) {
	for _, c := range storetest.Checks() {
		synctest.Test(t, func(t *testing.T) {
			b := &broken{Mem: new(store.Mem)}
			b.create = func(repo string, want store.Info) (store.Writer, error) {
				time.Sleep(time.Second)
				return b.Mem.Create(t.Context(), repo, want)
			}
			b.adopt = func(repo string, want store.Info, allowed allowed) error {
				time.Sleep(10 * time.Second)
				return b.Mem.Adopt(t.Context(), repo, want, allowed)
			}
			if err := c.Func(t.Context(), b); err != nil {
				t.Errorf("%s: %v", c.Name, err)
			}
		})
	}
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
