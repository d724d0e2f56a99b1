package rule

import "github.com/pullthrough/pullthrough/internal/oci"

// Words that may stand for names of platforms in [Rule.Platforms] and in the Platforms
// of a prefetch.
const (
	// AllPlatforms selects every platform of an index.
	AllPlatforms = oci.AllPlatforms
	// PulledPlatforms selects the platforms that clients pull.
	PulledPlatforms = oci.PulledPlatforms
)
