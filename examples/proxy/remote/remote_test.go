package remote

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pullthrough/pullthrough/examples/proxy/admin"
)

// TestDrawing: a bar fits into any terminal, and says how far it is.
func TestDrawing(t *testing.T) {
	for _, name := range []string{"", "hub/alpine:3", strings.Repeat("long/", 50) + "ü:v1"} {
		for width := 1; width < 200; width++ {
			for _, done := range []int64{0, 1, 50, 100, 200, -5} {
				line := drawing(name, done, 100, width)
				if n := utf8.RuneCountInString(line); n >= width || !utf8.ValidString(line) {
					t.Fatalf("width %d, %d of 100: %d characters: %q", width, done, n, line)
				}
			}
		}
	}
	for done, want := range map[int64]string{0: "  0 %", 50 << 20: " 50 %  50.0 MiB of 100.0 MiB", 100 << 20: "100 %"} {
		line := drawing("hub/alpine:3", done, 100<<20, 80)
		if !strings.HasPrefix(line, "hub/alpine:3 [") || !strings.Contains(line, want) {
			t.Errorf("%q, want %q in it", line, want)
		}
	}
	full, half := strings.Count(drawing("a", 100, 100, 80), "="), strings.Count(drawing("a", 50, 100, 80), "=")
	if full < 10 || half != full/2 && half != (full+1)/2 {
		t.Errorf("the bar has %d characters at the half and %d at the end", half, full)
	}
}

// TestBarWithoutATerminal: without a terminal there is neither a bar nor a line for each step.
func TestBarWithoutATerminal(t *testing.T) {
	var out bytes.Buffer
	b := &bar{out: &out, name: "a"}
	for i := range 100 {
		b.update(int64(i), 100)
	}
	b.said = b.said.Add(-2 * plainEvery)
	b.update(100, 100)
	b.end()
	if out.String() != "a: 100 B of 100 B\n" {
		t.Errorf("%q", out.String())
	}
}

// TestFlagsAnywhere: flags may stand before, between and after the arguments; -- ends them.
func TestFlagsAnywhere(t *testing.T) {
	for line, want := range map[string]string{
		"-all a b": "true [a b]", "a -all b": "true [a b]", "a b -all": "true [a b]", "a b": "false [a b]", "": "false []",
		"-- -all a": "false [-all a]", "a -- -all": "false [a -all]", "-all": "true []", "-all=false a": "false [a]",
	} {
		flags := flag.NewFlagSet("x", flag.ContinueOnError)
		flags.SetOutput(io.Discard)
		all := flags.Bool("all", false, "")
		rest, err := parseMixed(flags, strings.Fields(line))
		if got := fmt.Sprint(*all, " ", rest); err != nil || got != want {
			t.Errorf("%q: %s, %v, want %s", line, got, err, want)
		}
	}
}

// TestNames: a name is split as clients of registries split it.
func TestNames(t *testing.T) {
	for name, want := range map[string][]string{
		"a": {"a", ""}, "a/b": {"a/b", ""}, "a/b:v1": {"a/b", "v1"}, "a:1/b": {"a:1/b", ""}, "a:1/b:v1": {"a:1/b", "v1"}, "a/b@sha256:00": {"a/b", "sha256:00"}, "": {"", ""},
	} {
		repository, reference, err := split(name)
		if got := []string{repository, reference}; err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v, want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"a:", "a@", "a/b:", "@", ":"} {
		if _, _, err := split(name); exitCode(err) != ExitUsage {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestExitCodes: each kind of error has its exit code.
func TestExitCodes(t *testing.T) {
	for _, test := range []struct {
		err  error
		want int
	}{
		{nil, ExitDone}, {errors.New("x"), ExitFailed}, {ErrCut, ExitFailed}, {errFaults, ExitFailed}, {&usageError{"x"}, ExitUsage},
		{fmt.Errorf("a: %w", fmt.Errorf("%w: x", ErrUnreachable)), ExitUnreachable}, {&admin.Error{Status: 403, Code: admin.CodeOff}, ExitRefused},
		{fmt.Errorf("a: %w", &admin.Error{Status: 401, Code: admin.CodeUnauthorized}), ExitRefused}, {&admin.Error{Status: 403, Code: "DENIED"}, ExitFailed},
		{&admin.Error{Status: 404, Code: "MANIFEST_UNKNOWN"}, ExitNotThere}, {&admin.Error{Status: 400, Code: admin.CodeParameter}, ExitUsage},
		{&admin.Error{Status: 400, Code: "NAME_INVALID"}, ExitUsage}, {&admin.Error{Status: 503, Code: admin.CodeEnding}, ExitFailed},
	} {
		if got := exitCode(test.err); got != test.want {
			t.Errorf("%v: %d, want %d", test.err, got, test.want)
		}
	}
}

// TestAddresses: what is no admin address is refused, so that no token goes anywhere else.
func TestAddresses(t *testing.T) {
	for _, address := range []string{"127.0.0.1:1", "http://a:1", "https://a:1/", "[::1]:1"} {
		if _, err := NewClient(Target{Address: address}); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, address := range []string{"", "ftp://a", "http://", "http://a/b", "http://u:p@a", "http://a?x=1", "a b:1", "http://a:x"} {
		if _, err := NewClient(Target{Address: address}); err == nil {
			t.Errorf("%q is taken", address)
		}
	}
}

// TestSizes: numbers of bytes are written for people.
func TestSizes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1 << 30: "1.0 GiB", 1 << 62: "4096.0 PiB"} {
		if got := size(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
