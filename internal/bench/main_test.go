package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/internal/bench/registry"
	"github.com/pullthrough/pullthrough/internal/bench/serve"
)

// TestMain lets this program be the servers that it starts.
func TestMain(m *testing.M) {
	if role := serve.Role(os.Args); role != nil {
		if err := role(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func TestFlags(t *testing.T) {
	o, err := parse(nil, io.Discard)
	if err != nil || o.rounds != 5 || !reflect.DeepEqual(o.sizes, full()) || !o.only.MatchString("blob") {
		t.Errorf("without flags: %+v, %v", o, err)
	}
	o, err = parse([]string{"-quick"}, io.Discard)
	if err != nil || o.rounds != 1 || !reflect.DeepEqual(o.sizes, quick()) {
		t.Errorf("-quick: %+v, %v", o, err)
	}
	o, err = parse([]string{"-rounds", "3", "-blob=3MiB", "-quick=true", "-far", "2GiB", "-growth", "7,70", "-linkrate", "64KiB", "-delay", "1s", "-only", "^blob$", "-fan", "77"}, io.Discard)
	want := quick()
	want.Blob, want.Far, want.Fan, want.Growth, want.Link = 3<<20, 2<<30, 77, []int{7, 70}, registry.Link{Delay: time.Second, Rate: 64 << 10}
	if err != nil || o.rounds != 3 || !reflect.DeepEqual(o.sizes, want) || o.only.MatchString("blobs") {
		t.Errorf("flags beside -quick: %+v, %v; want sizes %+v", o, err, want)
	}
	for _, args := range []string{"-blob 0", "-blob -1MiB", "-blob 1TiB", "-blob MiB", "-blob 9999999GiB", "-growth 5,5", "-growth 0,5", "-growth x", "-rounds 0",
		"-slow 0", "-only (", "-nothing", "storm", "-quick storm"} {
		if _, err := parse(strings.Fields(args), io.Discard); err == nil {
			t.Errorf("%s is taken", args)
		}
	}
	if _, err := parse([]string{"-h"}, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
}

// TestQuick: without any peer that has to be installed, everything runs to its end and
// is in the table.
func TestQuick(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	folder := t.TempDir()
	var stdout, stderr bytes.Buffer
	if err := run(t.Context(), []string{"-quick", "-blob", "8MiB", "-time", "50ms", "-peers", "bare|direct|distribution", "-bin", folder, "-dir", folder}, &stdout, &stderr); err != nil {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	got := stdout.String()
	for _, want := range []string{"cores (", "| work | measured | this cache | × bare net/http | × bare, asking | × direct | taken by others |",
		"| cold 8 MiB, 1 client | MiB/s | ", "| warm 8 MiB, 1 client | CPU s/GiB | ", "| cold 16 MiB, 16 clients at once | first byte ms, median | ",
		"| 100 tiny images, 32 workers, cold | images/s | ", "| 100 tiny images, 32 workers, warm, asking | ", "| 100 tiny images, 32 workers, warm, in a window | CPU ms/image | ",
		"| manifest by digest, 64 connections | GET/s | ", "| manifest by tag, asking, 64 connections | CPU us/GET | ", "| manifest by tag, in a window, 64 connections | ",
		"| 50 slow clients of a cold 16 MiB | anonymous MiB | ", "| cold 4 MiB from 40ms away at 8 MiB/s a connection | MiB/s | ",
		"| 50 tiny images stored | start ms | ", "| 200 tiny images stored | tag p50 ms | ", "| 200 tiny images against 50 | RSS, times | "} {
		if !strings.Contains(got, want) {
			t.Errorf("the output lacks %q", want)
		}
	}
	for _, want := range []string{"registry is missing, and left out", "crane is missing, and its work is left out", "storm, round 1, this cache: "} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("the progress lacks %q", want)
		}
	}
	if t.Failed() {
		t.Logf("%s\n%s", got, &stderr)
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestInterruptedRun: the table of what was measured comes all the same.
func TestInterruptedRun(t *testing.T) {
	folder := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	var stdout bytes.Buffer
	progress := writer(func(p []byte) {
		if bytes.Contains(p, []byte("slow: making")) {
			cancel()
		}
	})
	err := run(ctx, []string{"-quick", "-only", "fan|slow|far", "-peers", "bare", "-dir", folder}, &stdout, progress)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v, want that of the context", err)
	}
	if got := stdout.String(); !strings.Contains(got, "| cold 16 MiB, 16 clients at once | MiB/s of all | ") || strings.Contains(got, "slow clients") {
		t.Errorf("the table is\n%s", got)
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// writer is an io.Writer that calls a function.
type writer func([]byte)

func (w writer) Write(p []byte) (int, error) { w(p); return len(p), nil }
