package main

import (
	"math"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pullthrough/pullthrough/cache"
)

// defaultMinFree is eviction.minFree if the file does not say it, for a store on a disk:
// beside what the store leaves free in any case, so that a disk that fills up costs old
// images and not the next ones.
const defaultMinFree = 2 << 30

// read returns the read of the eviction section.
func (e *evictionConfig) read(r reader) read {
	return func(n *yaml.Node, pos position) {
		e.position = pos
		r.fields(n, pos, map[string]read{
			"maxBytes": r.bytes(&e.maxBytes),
			"minFree":  r.bytes(&e.minFree),
			"maxAge":   r.freshness(&e.maxAge),
			"keep":     r.words(&e.keep),
		})
		for _, k := range e.keep {
			if err := (cache.Eviction{Keep: []string{k.text}}).Check(); err != nil {
				r.add(k.position, "%q: REPOSITORY or REPOSITORY:TAG is expected, with * for any characters", k.text)
			}
		}
	}
}

// eviction is what the file says about eviction, with its defaults.
func (s *settings) eviction() cache.Eviction {
	c := s.config.eviction
	v := cache.Eviction{MaxBytes: max(0, c.maxBytes), MinFree: max(0, c.minFree), MaxAge: c.maxAge, Rules: map[string]int64{}}
	if c.minFree == 0 && s.storePath != "" {
		v.MinFree = defaultMinFree
	}
	for _, k := range c.keep {
		v.Keep = append(v.Keep, k.text)
	}
	for _, r := range s.config.rules {
		if r.maxBytes > 0 {
			v.Rules[r.name.text] = r.maxBytes
		}
	}
	return v
}

// units are those of a number of bytes.
var units = []struct {
	suffix string
	bytes  float64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"", 1},
}

// bytes returns the read of a number of bytes, such as 500GiB. 0, which means no limit
// whatever the default is, becomes -1.
func (r reader) bytes(to *int64) read {
	return func(n *yaml.Node, pos position) {
		if r.sketch != nil {
			r.describeScalar(pos, `^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)\s*([kMGT]B|[KMGT]iB)?$`, "string", "number")
			r.sketch.at(pos.key).Minimum = new(float64)
			return
		}
		var w word
		r.word(&w)(n, pos)
		if w.text == "" {
			return
		}
		for _, u := range units {
			number, ok := strings.CutSuffix(w.text, u.suffix)
			if !ok {
				continue
			}
			f, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
			if err != nil || f < 0 || math.IsInf(f, 0) || math.IsNaN(f) || f*u.bytes >= math.MaxInt64 {
				break
			}
			if *to = int64(f * u.bytes); *to == 0 {
				*to = -1
			}
			return
		}
		r.add(pos, "%q is not a number of bytes such as 500GiB, 2TB or 1048576", w.text)
	}
}
