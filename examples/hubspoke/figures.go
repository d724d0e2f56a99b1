package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/pullthrough/pullthrough/examples/internal/narrate"
	"github.com/pullthrough/pullthrough/examples/internal/site"
)

// figures are what the levels were asked, by the name of the level.
type figures map[string]site.Asked

// atRegistry returns what the registry was asked.
func (s *story) atRegistry() site.Asked {
	return site.Asked{
		Heads:     s.registry.Count(http.MethodHead, "", ""),
		Manifests: s.registry.Count(http.MethodGet, "manifest", ""),
		Blobs:     s.registry.Count(http.MethodGet, "blob", ""),
		Bytes:     s.registry.BlobBytes(""),
	}
}

// counted waits until nothing is under way, prints what each level was asked, compares it
// with what is expected, and begins to count anew. Levels that were asked nothing are left
// out.
func (s *story) counted(ctx context.Context, want figures) error {
	got, err := s.count(ctx, want)
	if got != nil {
		s.table(got)
	}
	return err
}

// count is counted without the table. The figures are nil if they are not final.
func (s *story) count(ctx context.Context, want figures) (got figures, err error) {
	if err := s.settle(ctx); err != nil {
		return nil, err
	}
	got = figures{}
	note := func(name string, a site.Asked) {
		if a != (site.Asked{}) {
			got[name] = a
		}
	}
	note("registry", s.atRegistry())
	for _, c := range s.sites {
		note(c.Name, c.Asked())
	}
	s.reset()
	for _, name := range levels {
		err = errors.Join(err, narrate.Check(got[name] == want[name], "%s was asked %+v; the story says %+v", name, got[name], want[name]))
	}
	return got, err
}

// levels are all names, from the registry to the clients.
var levels = []string{"registry", "hub", "east", "west", "leaf-east", "leaf-west", "edge"}

// table prints figures, with a column of refusals if there are any.
func (s *story) table(f figures) {
	refused := false
	for _, a := range f {
		refused = refused || a.Refused > 0
	}
	s.Blank()
	row := func(name, heads, manifests, blobs, size, refusals string) {
		line := fmt.Sprintf("      %-9s %8s %11s %8s %12s", name, heads, manifests, blobs, size)
		if refused {
			line += fmt.Sprintf(" %9s", refusals)
		}
		s.Print(line)
	}
	row("level", "HEAD", "manifests", "blobs", "blob bytes", "refused")
	var idle []string
	for _, name := range levels {
		a, asked := f[name]
		switch {
		case asked:
			row(name, strconv.Itoa(a.Heads), strconv.Itoa(a.Manifests), strconv.Itoa(a.Blobs), narrate.Size(a.Bytes), strconv.Itoa(a.Refused))
		case name != "edge":
			idle = append(idle, name)
		}
	}
	if idle != nil {
		s.Print("      nothing was asked of " + strings.Join(idle, ", "))
	}
	s.Blank()
}
