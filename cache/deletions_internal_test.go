package cache

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Of what is written into a repository and its deletions, each keeps the other out, and
// nothing is remembered of a repository when both are over.
func TestWritesAndDeletionsOfARepository(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDeletions()
		wantWrite := func(when, repository string, began time.Time, want error) {
			t.Helper()
			done, err := d.write(repository, began)
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", when, err, want)
			}
			if err == nil {
				done()
			}
		}
		start := time.Now()
		wantWrite("before all", "app/api", start, nil)
		time.Sleep(time.Second)
		d.begin("app/api", time.Now())
		d.begin("app/api", time.Now())
		wantWrite("during deletions", "app/api", time.Now(), ErrDeleted)
		wantWrite("into another", "app/web", start, nil)
		d.end("app/api", time.Now())
		time.Sleep(time.Second)
		during := time.Now()
		wantWrite("during one", "app/api", during, ErrDeleted)
		time.Sleep(time.Second)
		d.end("app/api", time.Now())
		wantWrite("begun before the end", "app/api", during, ErrDeleted)
		time.Sleep(time.Second)
		wantWrite("begun after the end", "app/api", time.Now(), nil)
		d.note("app/api", "", start) // told late
		wantWrite("begun before the end", "app/api", during, ErrDeleted)

		one, _ := d.write("app/api", time.Now())
		two, _ := d.write("app/api", time.Now())
		waited := make(chan error, 2)
		for range 2 {
			go func() { waited <- d.wait(t.Context(), "app/api") }()
		}
		synctest.Wait()
		one()
		synctest.Wait()
		if len(waited) > 0 {
			t.Error("it does not wait for all")
		}
		two()
		synctest.Wait()
		if len(waited) != 2 || <-waited != nil || <-waited != nil {
			t.Errorf("%d waited", len(waited))
		}
		if len(d.busy) != 0 {
			t.Errorf("it remembers %d repositories", len(d.busy))
		}
	})
}
