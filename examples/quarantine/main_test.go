package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/internal/narrate"
)

// emptyTemp makes a folder for temporary files, which must be empty at the end of the test.
func emptyTemp(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("TMPDIR", folder)
	t.Cleanup(func() {
		if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v %v", left, err)
		}
	})
}

func TestTheStoryIsTrue(t *testing.T) {
	emptyTemp(t)
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatalf("%v after\n%s", err, out.String())
	}
	rest := out.String()
	for _, want := range []string{
		`1\. .*`, `pushes version 1 as vendor/app:stable`,
		`2\. .*`, `403\s+DENIED: tag 'stable' of repository 'vendor/app' is not admitted: it is in\s+quarantine and has not been scanned yet`,
		`audit +quarantine: push, version 1\n +audit +scanner: clean, version 1\n`, `vendor +was asked: HEAD 0, manifests 2, blobs 3, 2\.5 MiB\n`,
		`3\. .*`, `dev +vendor/app:stable is version 1 +fwd=miss; fwd-status=200\n`, `vendor +was asked: HEAD 1, manifests 0, blobs 0, 0 B\n`,
		`4\. .*`, `403 DENIED: .*\s+test has not\s+pulled\s+it\s+yet`, `test +vendor/app:stable is version 1`, `audit +test: push, version 1`,
		`403 DENIED: .*\s+held until\s+20\d\d-\d\d-\d\dT.*Z: there is time for objections`, `prod +vendor/app:stable is version 1 +fwd=miss`,
		`vendor +was asked: HEAD 4, manifests 0, blobs 0, 0 B\n`, `prod, test, dev, quarantine\n`,
		`5\. .*`, `dev +vendor/app:stable is version 1 .*detail=held\n`, `scanner: rejected, version 2`, `dev +vendor/app:stable is version 1 .*detail=held\n`,
		`Explain says: .*`, `the scanner has rejected it`, `test +vendor/app:stable is version 1 .*detail=unchanged\n +prod +vendor/app:stable is version 1 .*detail=unchanged\n`,
		`vendor +was asked: HEAD 4, manifests 2, blobs 2, 514\.\d KiB\n`, `dev +vendor/app:2\.0 is refused\n +403 DENIED`, `prod +vendor/app:2\.0 is refused\n +403 DENIED: source`,
		`6\. .*`, `HEAD vendor/app@sha256:\w+ \(version 2\): 200 OK\n`,
		`7\. .*`, `dev +vendor/app:stable is version 1 .*detail=held\n`, `scanner: clean, version 3`, `dev +vendor/app:stable is version 3`, `test +vendor/app:stable is version 3`,
		`prod +vendor/app:stable is version 1 .*detail=held\n`, `prod +vendor/app:stable is version 3`, `vendor +was asked: HEAD 5, manifests 2, blobs 2, 514\.\d KiB\n`,
		`8\. .*`, ` 1 ( +\d\.\d{3} s){6}\n +2 +\d\.\d{3} s( +-){5} +rejected\n +3 ( +\d\.\d{3} s){6}\n`, `has sent 3\.5 MiB in all: each blob once\n`,
		`Everything was as the story says\.\n$`,
	} {
		at := regexp.MustCompile(want).FindStringIndex(rest)
		if at == nil {
			t.Fatalf("nothing like %q where it should be in\n%s", want, out.String())
		}
		rest = rest[at[1]:]
	}
	for line := range strings.Lines(out.String()) {
		if utf8.RuneCountInString(line) > narrate.Width+1 || strings.TrimRight(line, " \n")+"\n" != line {
			t.Errorf("not for people: %q", line)
		}
	}
}

// TestAStoryThatIsNotTrue: a step with which a test meddles fails, for the right reason.
func TestAStoryThatIsNotTrue(t *testing.T) {
	// admit changes what the gate of a stage says.
	admit := func(name string, says func(error) error) func(string, *cache.Cache) {
		return func(at string, c *cache.Cache) {
			if gate := c.Admit; at == name {
				c.Admit = func(ctx context.Context, candidate cache.Candidate) error { return says(gate(ctx, candidate)) }
			}
		}
	}
	nothing := func(error) error { return nil }
	ask := func(s *story) { _, _, _ = s.dev.Client.Index(context.Background(), app, stable) }
	forge := func(e entry) func(*story) {
		return func(s *story) {
			s.trail.mu.Lock()
			defer s.trail.mu.Unlock()
			e.digest = s.version(2)
			s.trail.entries = append(s.trail.entries, e)
		}
	}
	for what, row := range map[string]struct {
		step   int
		meddle func(*story)
		at     int // the step with which meddle meddles; if 0, step
		change func(string, *cache.Cache)
		says   string
	}{
		"development admits everything": {step: 2, change: admit("dev", nothing), says: "vendor/app:stable was not refused at dev"},
		"an extra question":             {step: 3, meddle: ask, says: "the vendor was asked {Heads:2"},
		"a vendor that is down":         {step: 3, meddle: func(s *story) { s.vendor.Stop() }, says: "the vendor was asked {Heads:0"},
		"production admits everything":  {step: 4, change: admit("prod", nothing), says: "vendor/app:stable was not refused at prod"},
		"no time for objections": {step: 4, change: admit("prod", func(err error) error {
			if _, ok := errors.AsType[*cache.Hold](err); ok {
				return nil
			}
			return err
		}), says: "vendor/app:stable was not refused at prod"},
		"a fourth cache is too many": {step: 4, change: func(_ string, c *cache.Cache) { c.MaxHops = 0 }, says: "the vendor was asked {Heads:1"},
		"a gate that ignores verdicts": {step: 5, change: admit("dev", func(err error) error {
			if err != nil && strings.Contains(err.Error(), "rejected") {
				return nil
			}
			return err
		}), says: "at dev the tag stable is version 2"},
		"no former image": {step: 5, meddle: func(s *story) { _ = s.prod.Cache.DeleteRepository(context.Background(), app) }, says: "the tag's Cache-Status is"},
		"pulled by digest": {step: 8, at: 7, meddle: func(s *story) {
			_, _ = s.prod.Client.Pull(context.Background(), app, s.version(2).String(), "amd64", nil)
		}, says: "prod has sent 8 events"},
		"left out a stage": {step: 8, meddle: forge(entry{time.Now().Add(time.Hour), "prod", push, stable, ""}), says: `version 2 is at "prod", and "asked" is missing`},
		"out of order":     {step: 8, meddle: forge(entry{time.Time{}, "scanner", clean, "", ""}), says: `version 2 is at "clean" before`},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			if row.at == 0 {
				row.at = row.step
			}
			var out bytes.Buffer
			err := perform(t.Context(), &out, row.change, func(step int, s *story) {
				if step == row.at && row.meddle != nil {
					row.meddle(s)
				}
			})
			if err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("step %d: ", row.step)) || !strings.Contains(err.Error(), row.says) {
				t.Errorf("%v, want step %d: %s, after\n%s", err, row.step, row.says, out.String())
			}
		})
	}
}

// TestTrailWantsSignatures: what is not signed gets neither into the audit trail nor to the
// scanner.
func TestTrailWantsSignatures(t *testing.T) {
	st := &stages{}
	defer func() {
		if err := st.close(); err != nil {
			t.Error(err)
		}
	}()
	if err := st.open(nil); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/audit/prod", "/scanner"} {
		resp, err := http.Post(st.receiver.URL+path, "application/json", strings.NewReader(`{"id":"1","action":"push","target":{"repository":"vendor/app","tag":"stable"}}`))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden || st.trail.pushes("prod") != 0 {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

// TestInterrupted: the story ends at once when it is interrupted, even while time passes, and
// nothing goes on in the background.
func TestInterrupted(t *testing.T) {
	emptyTemp(t)
	for _, step := range []int{1, 4, 7} {
		before := runtime.NumGoroutine()
		ctx, cancel := context.WithCancel(t.Context())
		begun := time.Now()
		err := perform(ctx, io.Discard, nil, func(at int, s *story) {
			switch {
			case at == step && at == 4:
				go func() { // when production has been asked
					for _, ok := s.trail.has("prod", asked, s.version(1)); !ok && ctx.Err() == nil; _, ok = s.trail.has("prod", asked, s.version(1)) {
						time.Sleep(time.Millisecond)
					}
					cancel()
				}()
			case at == step:
				cancel()
			}
		})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("step %d: %v", step, err)
		}
		for runtime.NumGoroutine() > before && time.Since(begun) < patience {
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(begun); took > patience/2 {
			t.Errorf("step %d: it took %v, and of %d goroutines there are %d", step, took, before, runtime.NumGoroutine())
		}
	}
}
