package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/internal/narrate"
	"github.com/pullthrough/pullthrough/rule"
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
		`1\. .*`, `golden/base:24\.04 for linux/amd64 and linux/arm64`,
		`2\. .*`, `of which the registry has sent 2\.0 MiB of 4\.0 MiB`,
		`registry +0 +3 +4 +7\.0 MiB\n +hub +0 +4 +8 +14\.0 MiB\n +east +0 +2 +4 +7\.0 MiB\n +west +0 +2 +4 +7\.0 MiB\n` +
			` +leaf-east +0 +2 +4 +7\.0 MiB\n +leaf-west +0 +2 +4 +7\.0 MiB\n`, `sent the image once`,
		`3\. .*`, `registry +1 +0 +0 +0 B\n +hub +1 +0 +0 +0 B\n +east +1 +0 +0 +0 B\n +leaf-east +0 +2 +4 +7\.0 MiB\n +nothing was asked of west, leaf-west\n`,
		`CDN-Loop: leaf-east, east, hub\n`,
		`4\. .*`, `24\.04 is now sha256:`, `registry +1 +2 +2 +1\.0 MiB\n +hub +1 +2 +2 +1\.0 MiB\n +east +1 +2 +2 +1\.0 MiB\n +leaf-east +0 +2 +4 +7\.0 MiB\n`,
		`registry +1 +0 +0 +0 B\n +hub +1 +2 +2 +1\.0 MiB\n +west +1 +2 +2 +1\.0 MiB\n +leaf-west +0 +2 +4 +7\.0 MiB\n`,
		`5\. .*`, `508 UNKNOWN: source '127\.0\.0\.1:\d+/loop/app' of cache rule 'from-hub'`, `hub .* 1\n +east .* 2\n +nothing was asked of registry, `,
		`6\. .*`, `508 UNKNOWN: source '127\.0\.0\.1:\d+/golden/tool' of cache rule 'from-leaf-east'`, `MaxHops`,
		`hub .* 1\n +east .* 1\n +leaf-east .* 1\n +edge .* 1\n +nothing was asked of registry, `,
		`24\.04 is now sha256:67c0cc89959f`, `edge +gets the former one, sha256:1301728dcd66`,
		`All figures were counted, and are what they should be\.\n$`,
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
	ask := func(s *story) { _, _, _ = s.leafWest.Client.Index(context.Background(), golden, tag) }
	pull := func(s *story) { _, _ = s.leafWest.Client.Pull(context.Background(), golden, tag, "amd64", nil) }
	change := func(name string, do func(*cache.Cache)) func(string, *cache.Cache) {
		return func(at string, c *cache.Cache) {
			if at == name || name == "" {
				do(c)
			}
		}
	}
	former := func(c *cache.Cache) {
		c.Admit = func(_ context.Context, candidate cache.Candidate) error {
			return narrate.Check(candidate.Former == "", "a tag never moves here")
		}
	}
	for what, row := range map[string]struct {
		step   int
		meddle func(*story)
		change func(string, *cache.Cache)
		says   string
	}{
		"asked already":            {step: 2, meddle: ask, says: "registry was asked {Heads:0 Manifests:4 "},
		"no layer":                 {step: 2, meddle: func(s *story) { s.registry.Delete(golden, s.amd64().Layers[2].Digest) }, says: "404 BLOB_UNKNOWN"},
		"a third level is refused": {step: 2, change: change("hub", func(c *cache.Cache) { c.MaxHops = 2 }), says: "508"},
		"an extra pull":            {step: 3, meddle: pull, says: "hub was asked {Heads:2"},
		"a registry that is down":  {step: 3, meddle: func(s *story) { s.registry.Stop() }, says: "registry was asked {Heads:0"},
		"nobody asks again":        {step: 3, change: change("", func(c *cache.Cache) { c.Freshness = time.Hour }), says: "registry was asked {Heads:0"},
		"another name":             {step: 3, change: change("east", func(c *cache.Cache) { c.ID = "another" }), says: `CDN-Loop is "leaf-east, another, hub"`},
		"the tag does not move":    {step: 4, change: change("hub", former), says: "at leaf-east the tag is"},
		"no mistake":               {step: 5, change: change("hub", func(c *cache.Cache) { _ = c.Rules.(*rule.Set).Delete("mistake") }), says: "not 508"},
		"a fourth level is let in": {step: 6, change: change("hub", func(c *cache.Cache) { c.MaxHops = 4 }), says: "was not refused at edge"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			err := perform(t.Context(), &out, row.change, func(step int, s *story) {
				if step == row.step && row.meddle != nil {
					row.meddle(s)
				}
			})
			if err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("step %d: ", row.step)) || !strings.Contains(err.Error(), row.says) {
				t.Errorf("%v, want step %d: %s, after\n%s", err, row.step, row.says, out.String())
			}
		})
	}
}

// TestInterrupted: the story ends at once when it is interrupted, even during a pull, and
// nothing goes on in the background.
func TestInterrupted(t *testing.T) {
	emptyTemp(t)
	for _, step := range []int{1, 2, 6} {
		before := runtime.NumGoroutine()
		ctx, cancel := context.WithCancel(t.Context())
		begun := time.Now()
		err := perform(ctx, io.Discard, nil, func(at int, s *story) {
			switch {
			case at == step && at == 2:
				go func() {
					for s.registry.BlobBytes("") == 0 {
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
