package oci

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The words that select platforms without naming them.
const (
	AllPlatforms    = "all"
	PulledPlatforms = "pulled"
)

// CheckPlatforms validates a selection of platforms: empty or "pulled" for those that
// clients pull, "all", or names such as linux/arm64 or linux/arm/v7.
func CheckPlatforms(list []string) error {
	for _, p := range list {
		switch {
		case p == AllPlatforms || p == PulledPlatforms:
			if len(list) > 1 {
				return fmt.Errorf("platforms: %q stands alone", p)
			}
		case !platform.MatchString(p):
			return fmt.Errorf("platforms: %q is neither %q, %q nor OS/ARCHITECTURE[/VARIANT]", p, AllPlatforms, PulledPlatforms)
		}
	}
	return nil
}

// platform is the form of a platform's name. A compiled expression is safe for
// concurrent use and never changes.
var platform = regexp.MustCompile(`^[a-z0-9]+/[a-z0-9_]+(/[a-z0-9]+)?$`)

// Selected returns a selection, or nil if it selects the platforms that clients pull.
func Selected(list []string) []string {
	if len(list) == 1 && list[0] == PulledPlatforms {
		return nil
	}
	return list
}

// MergePlatforms returns a selection of what either selects. If only one of them names
// platforms, the result is that one.
func MergePlatforms(a, b []string) []string {
	a, b = Selected(a), Selected(b)
	if len(a) == 0 {
		return b
	}
	merged := slices.Clone(a)
	for _, p := range b {
		if p == AllPlatforms {
			return []string{AllPlatforms}
		}
		if !slices.Contains(merged, p) && merged[0] != AllPlatforms {
			merged = append(merged, p)
		}
	}
	return merged
}

// Select returns the children of an index that a selection names: all of them, those of
// its platforms with their attestations, or none if it selects what clients pull.
func (m *Manifest) Select(list []string) []ocispec.Descriptor {
	list = Selected(list)
	if len(list) == 0 {
		return nil
	}
	if list[0] == AllPlatforms {
		return m.Manifests
	}
	var chosen []ocispec.Descriptor
	isChosen := map[digest.Digest]bool{}
	for _, d := range m.Images() {
		if slices.ContainsFunc(list, func(p string) bool { return matches(p, d.Platform) }) {
			chosen = append(chosen, d)
			isChosen[d.Digest] = true
		}
	}
	for _, d := range m.Manifests {
		if attestation(d) && isChosen[digest.Digest(d.Annotations["vnd.docker.reference.digest"])] {
			chosen = append(chosen, d)
		}
	}
	return chosen
}

// Selects reports whether a selection of names, or of all, has a platform.
func Selects(list []string, p *ocispec.Platform) bool {
	return slices.ContainsFunc(list, func(name string) bool { return name == AllPlatforms || matches(name, p) })
}

// NamesPlatforms reports whether a selection names platforms, instead of "all" or
// "pulled".
func NamesPlatforms(list []string) bool {
	return len(list) > 0 && list[0] != AllPlatforms && list[0] != PulledPlatforms
}

// Lacks returns the names of a selection for which an index has no image.
func (m *Manifest) Lacks(list []string) (names []string) {
	for _, name := range list {
		has := func(d ocispec.Descriptor) bool { return matches(name, d.Platform) }
		if m.Index && name != AllPlatforms && name != PulledPlatforms && !slices.ContainsFunc(m.Images(), has) {
			names = append(names, name)
		}
	}
	return names
}

// matches reports whether a name selects a platform. A name without a variant selects
// all variants.
func matches(name string, p *ocispec.Platform) bool {
	if p == nil {
		return false
	}
	os, rest, _ := strings.Cut(name, "/")
	architecture, variant, exact := strings.Cut(rest, "/")
	return p.OS == os && p.Architecture == architecture && (!exact || p.Variant == variant)
}

// PlatformName returns a platform as OS/ARCHITECTURE[/VARIANT], or "" if it is nil or
// lacks one of the first two.
func PlatformName(p *ocispec.Platform) string {
	if p == nil || p.OS == "" || p.Architecture == "" {
		return ""
	}
	name := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		name += "/" + p.Variant
	}
	return name
}
