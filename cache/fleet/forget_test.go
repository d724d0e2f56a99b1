package fleet_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// What is deleted through one replica is forgotten by all, and a copy of it ends.
func TestDeletionReachesAll(t *testing.T) {
	s := share(t, 3)
	img := s.up.AddImage("team/app", "v1", upstreamtest.Layers(1, 100<<10))
	s.up.Fail(upstreamtest.Fault{Kind: "blob", Hang: true})
	for _, r := range s.all {
		if _, _, err := r.Manifest(t.Context(), "mirror/app", "v1"); err != nil {
			t.Fatal(err)
		}
	}
	s.heard(func() error { return s.all[0].Delete(t.Context(), "mirror/app", img.Digest.String()) }, func(r *replica) error {
		if c := r.Copies(); len(c) != 0 {
			return fmt.Errorf("it copies %v", c)
		}
		return nil
	})
	s.up.Heal()
	s.up.Release()
	s.image(s.all, img)
	s.idle(s.all)
	s.toldOnce(img)
	s.heard(func() error { return s.all[1].DeleteRepository(t.Context(), "mirror/app") }, func(r *replica) error {
		if x, err := r.Explain(t.Context(), "mirror/app", "v1"); err != nil || x.Stored {
			return fmt.Errorf("%v, %w", x.Text, err)
		}
		return nil
	})
}

// heard deletes, and wants every replica to know of it as soon as that has ended. Where
// the deletion took so long that it may have gone on without one of them, that one gets
// a minute, for it is told again.
func (s *sharing) heard(deletes func() error, forgot func(*replica) error) {
	s.Helper()
	began := time.Now()
	if err := deletes(); err != nil {
		s.Fatal(err)
	}
	var patience time.Duration
	if time.Since(began) >= 2*time.Second {
		patience = time.Minute
	}
	for i, r := range s.all {
		for began, err := time.Now(), forgot(r); err != nil; err = forgot(r) {
			if time.Since(began) >= patience {
				s.Fatalf("replica %d: %v", i, err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}
