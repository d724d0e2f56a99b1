package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pullthrough/pullthrough/internal/bench/registry"
	"github.com/pullthrough/pullthrough/internal/bench/work"
)

// options are what the flags say.
type options struct {
	rounds      int
	only, peers *regexp.Regexp
	tools, dir  string
	sizes       work.Sizes
}

// full and quick are the sizes of a measurement, and of a run that only shows that
// everything works.
func full() work.Sizes {
	return work.Sizes{
		Blob: 1 << 30, Fan: 256 << 20, Passes: 4, Images: 2000, Time: 2 * time.Second, Layer: 8 << 20, Slow: 200, SlowTime: 3 * time.Second,
		Far: 64 << 20, Link: registry.Link{Delay: 40 * time.Millisecond, Rate: 8 << 20}, Growth: []int{1000, 10_000, 100_000},
	}
}

func quick() work.Sizes {
	return work.Sizes{
		Blob: 64 << 20, Fan: 16 << 20, Passes: 2, Images: 100, Time: 200 * time.Millisecond, Layer: 256 << 10, Slow: 50, SlowTime: 500 * time.Millisecond,
		Far: 4 << 20, Link: registry.Link{Delay: 40 * time.Millisecond, Rate: 8 << 20}, Growth: []int{50, 200},
	}
}

// parse reads the flags.
func parse(args []string, stderr io.Writer) (*options, error) {
	o, small, err := parseOver(full(), 5, args, stderr)
	if small && err == nil {
		// Flags that are given count, whatever -quick says.
		o, _, err = parseOver(quick(), 1, args, stderr)
	}
	return o, err
}

// parseOver reads the flags over defaults, and whether -quick is there.
func parseOver(sizes work.Sizes, rounds int, args []string, stderr io.Writer) (*options, bool, error) {
	o := &options{only: regexp.MustCompile(""), peers: regexp.MustCompile(""), sizes: sizes}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	small := flags.Bool("quick", false, "one round of small sizes, to see that everything works")
	flags.IntVar(&o.rounds, "rounds", rounds, "how often everything is done")
	flags.Func("only", "do the works that this `REGEXP` matches: "+strings.Join(names(), ", "), pattern(&o.only))
	flags.Func("peers", "take the peers that this `REGEXP` matches, and this cache", pattern(&o.peers))
	flags.StringVar(&o.tools, "bin", "../../.ci/bin", "`FOLDER` of crane and registry, before PATH")
	flags.StringVar(&o.dir, "dir", "", "`FOLDER` for the files of the servers, on the disk to measure (default: that for temporary files)")
	sizeFlags(flags, &o.sizes)
	if err := flags.Parse(args); err != nil {
		return nil, false, err
	}
	if flags.NArg() > 0 {
		return nil, false, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if s := o.sizes; o.rounds < 1 || s.Passes < 1 || s.Images < 1 || s.Layer < 1 || s.Slow < 1 || s.Time <= 0 || s.SlowTime <= 0 || s.Link.Delay < 0 {
		return nil, false, errors.New("rounds and sizes must be above 0")
	}
	return o, *small, nil
}

// sizeFlags has flags set sizes.
func sizeFlags(flags *flag.FlagSet, s *work.Sizes) {
	flags.Func("blob", "size of the blob for one client, such as 1GiB", bytesOf(&s.Blob))
	flags.Func("fan", "size of the blob for 16 clients and for slow ones", bytesOf(&s.Fan))
	flags.IntVar(&s.Passes, "passes", s.Passes, "how often the warm blob is pulled in a row")
	flags.IntVar(&s.Images, "images", s.Images, "number of tiny images")
	flags.DurationVar(&s.Time, "time", s.Time, "how long warm manifests are asked for")
	flags.IntVar(&s.Layer, "layer", s.Layer, "bytes of each of the ten layers for crane")
	flags.IntVar(&s.Slow, "slow", s.Slow, "number of slow clients")
	flags.DurationVar(&s.SlowTime, "slowtime", s.SlowTime, "how long they stay")
	flags.Func("far", "size of the blob behind the long link", bytesOf(&s.Far))
	flags.DurationVar(&s.Link.Delay, "delay", s.Link.Delay, "round trip of the long link")
	flags.Func("linkrate", "bytes per second that the long link gives each connection, such as 8MiB", bytesOf(&s.Link.Rate))
	flags.Func("growth", "numbers of images at which the growing cache is looked at, such as 1000,100000", counts(&s.Growth))
}

// names are those of the works.
func names() (all []string) {
	for _, w := range work.All() {
		all = append(all, w.Name)
	}
	return all
}

func pattern(to **regexp.Regexp) func(string) error {
	return func(text string) (err error) {
		*to, err = regexp.Compile(text)
		return err
	}
}

// bytesOf parses a size such as 64MiB.
func bytesOf(to *int64) func(string) error {
	return func(text string) error {
		number, unit := text, int64(1)
		for i, suffix := range []string{"KiB", "MiB", "GiB"} {
			if short, ok := strings.CutSuffix(text, suffix); ok {
				number, unit = short, 1<<(10*(i+1))
			}
		}
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || n < 1 || n > 1<<40/unit {
			return errors.New("want a size above 0, such as 65536, 64KiB, 64MiB or 1GiB")
		}
		*to = n * unit
		return nil
	}
}

// counts parses numbers that grow.
func counts(to *[]int) func(string) error {
	return func(text string) error {
		var all []int
		last := 0
		for part := range strings.SplitSeq(text, ",") {
			n, err := strconv.Atoi(part)
			if err != nil || n <= last {
				return errors.New("want numbers above 0 that grow, such as 1000,100000")
			}
			all, last = append(all, n), n
		}
		*to = all
		return nil
	}
}
