package ociname

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// DockerHub is the canonical host of Docker Hub.
const DockerHub = "docker.io"

// dockerRegistry is the host that serves the registry of Docker Hub.
const dockerRegistry = "registry-1.docker.io"

// RegistryHost returns the host that serves the registry of a canonical host:
// Docker Hub's is another one than its name.
func RegistryHost(canonical string) string {
	if canonical == DockerHub {
		return dockerRegistry
	}
	return canonical
}

// CanonicalHost returns the one form of a registry's host, HOST or HOST:PORT: that
// of [FoldHost], with an IPv6 address in its usual notation. It fails for what is
// not the host of a registry, and says what is wrong with it.
func CanonicalHost(host string) (string, error) {
	name, port, found := splitPort(host)
	if found && !validPort(port) {
		return "", fmt.Errorf("invalid port %q", port)
	}
	if ip, ok := address6(name); ok {
		host = "[" + ip.String() + "]" + host[len(name):]
	} else if err := checkName(name); err != nil {
		return "", err
	}
	return FoldHost(host), nil
}

// FoldHost maps the spellings of one host to one: lower case, no trailing dot, no
// ":443", and docker.io for every name of Docker Hub. A host with another port
// than 443 is not Docker Hub. FoldHost does not check anything: what is no host
// becomes no host. IPv6 addresses keep their notation.
func FoldHost(host string) string {
	name, port, _ := splitPort(host)
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	switch {
	case port != "" && port != "443":
		if len(name)+1+len(port) == len(host) && strings.HasPrefix(host, name) {
			return host
		}
		return name + ":" + port
	case name == "index.docker.io" || name == dockerRegistry:
		return DockerHub
	}
	return name
}

// ValidURLHost reports whether host, as it stands in a URL, is HOST or HOST:PORT
// and means the same to everybody who reads it: to us, to net/http, to a proxy and
// to a resolver. That is why it must be ASCII, since net/http maps other letters to
// ASCII ones (IDNA), by which "169。254。169。254" becomes an address after it was
// looked at; a name in another script can be written as xn--.
//
// It accepts more than [CanonicalHost]: an underscore is no part of a host name, but
// storage services and container networks use it. Whether a name stands for an
// address is not its question either.
func ValidURLHost(host string) bool {
	name, port, found := splitPort(host)
	if found && !validPort(port) {
		return false
	}
	if strings.HasPrefix(name, "[") {
		_, ok := address6(name)
		return ok
	}
	return checkLabels(strings.TrimSuffix(name, "."), checkURLLabel) == nil
}

// splitPort takes HOST:PORT apart, and reports whether there is a port.
func splitPort(host string) (name, port string, found bool) {
	end := strings.LastIndexByte(host, ':')
	if end < 0 || end < strings.LastIndexByte(host, ']') {
		return host, "", false
	}
	return host[:end], host[end+1:], true
}

// validPort reports whether port is the one notation of a port that can be
// dialled: without a sign and without a leading zero.
func validPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n != 0 && port[0] != '0'
}

// checkName checks a DNS name or an IPv4 address.
func checkName(name string) error {
	if strings.HasPrefix(name, "[") {
		return errors.New("invalid IPv6 address")
	}
	name = strings.TrimSuffix(name, ".")
	if err := checkLabels(name, checkLabel); err != nil {
		return err
	}
	if !Numeric(name[strings.LastIndexByte(name, '.')+1:]) {
		return nil
	}
	// A number at the end makes it an address for some resolvers, in a dozen
	// notations; only the usual one is let in.
	if ip, err := netip.ParseAddr(name); err != nil || !ip.Is4() {
		return errors.New("it ends in a number and is no IPv4 address")
	}
	return nil
}

// address6 reads an IPv6 address in brackets. A zone is refused, since it means
// something on one machine only.
func address6(name string) (netip.Addr, bool) {
	if len(name) < 2 || name[0] != '[' || name[len(name)-1] != ']' {
		return netip.Addr{}, false
	}
	ip, err := netip.ParseAddr(name[1 : len(name)-1])
	return ip, err == nil && ip.Is6() && ip.Zone() == ""
}

// checkLabels checks the length of a name, and each of its labels.
func checkLabels(name string, check func(label string) error) error {
	if name == "" || len(name) > 253 {
		return fmt.Errorf("it has %d characters", len(name))
	}
	for label := range strings.SplitSeq(name, ".") {
		if err := check(label); err != nil {
			return err
		}
	}
	return nil
}

// ValidLabel reports whether label is a label of a host name (RFC 1123), in upper
// or lower case.
func ValidLabel(label string) bool { return checkLabel(label) == nil }

func checkLabel(label string) error {
	switch {
	case label == "" || label[0] == '-' || label[len(label)-1] == '-':
		return fmt.Errorf("invalid label %q", label)
	case strings.IndexByte(label, '_') >= 0:
		return fmt.Errorf("invalid character %q", '_')
	}
	return checkURLLabel(label)
}

// checkURLLabel accepts an underscore, and hyphens wherever they stand.
func checkURLLabel(label string) error {
	if label == "" || len(label) > 63 {
		return fmt.Errorf("invalid label %q", label)
	}
	for i := range len(label) {
		if c := label[i]; c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return fmt.Errorf("invalid character %q", c)
		}
	}
	return nil
}

// Numeric reports whether some resolver may take a label for a number: decimal, or
// hexadecimal with its prefix. A name that ends in one may be an address.
func Numeric(label string) bool {
	digits := "0123456789"
	if len(label) >= 2 && (label[:2] == "0x" || label[:2] == "0X") {
		label, digits = label[2:], "0123456789abcdefABCDEF"
	}
	return strings.Trim(label, digits) == ""
}
