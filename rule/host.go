package rule

import (
	"fmt"

	"github.com/pullthrough/pullthrough/internal/ociname"
)

// CanonicalHost returns the canonical form of a registry's host, in which hosts are
// compared and stored: lower case, no trailing dot, no ":443", addresses in their usual
// notation, and docker.io for every name of Docker Hub. It returns an error if host is
// not HOST or HOST:PORT.
func CanonicalHost(host string) (string, error) {
	name, err := ociname.CanonicalHost(host)
	if err != nil {
		return "", fmt.Errorf("rule: %q is not a registry's host: %w", host, err)
	}
	return name, nil
}

// onHub reports whether a canonical host is Docker Hub.
func onHub(host string) bool { return host == ociname.DockerHub }
