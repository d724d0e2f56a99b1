package rule

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// dockerHub is the canonical name of Docker Hub.
const dockerHub = "docker.io"

// CanonicalHost returns the one form of a registry's host that everything is
// keyed by: lower case, no trailing dot, no ":443", addresses in their usual
// notation, and docker.io for every name of Docker Hub. It fails for what is
// not HOST or HOST:PORT.
func CanonicalHost(host string) (string, error) {
	name, port, err := splitPort(host)
	if err != nil {
		return "", err
	}
	if name, err = canonicalName(name); err != nil {
		return "", fmt.Errorf("rule: %q is not a registry's host: %w", host, err)
	}
	if port != "" {
		name += ":" + port
	}
	return name, nil
}

// splitPort takes HOST:PORT apart. Port 443 is none.
func splitPort(host string) (name, port string, err error) {
	end := strings.LastIndexByte(host, ':')
	if end < 0 || end < strings.LastIndexByte(host, ']') {
		return host, "", nil
	}
	name, port = host[:end], host[end+1:]
	// One notation for each port: no sign, no leading zero.
	n, bad := strconv.ParseUint(port, 10, 16)
	if bad != nil || n == 0 || port[0] == '0' {
		return "", "", fmt.Errorf("rule: %q is not a registry's host: invalid port %q", host, port)
	}
	if n == 443 {
		port = ""
	}
	return name, port, nil
}

// canonicalName handles what comes before the port.
func canonicalName(name string) (string, error) {
	if strings.HasPrefix(name, "[") {
		inner, ok := strings.CutSuffix(name[1:], "]")
		ip, err := netip.ParseAddr(inner)
		if !ok || err != nil || !ip.Is6() || ip.Zone() != "" {
			return "", fmt.Errorf("invalid IPv6 address")
		}
		return "[" + ip.String() + "]", nil
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if err := validName(name); err != nil {
		return "", err
	}
	switch name {
	case "index.docker.io", "registry-1.docker.io":
		return dockerHub, nil
	}
	return name, nil
}

// validName checks a lower-case DNS name or an IPv4 address.
func validName(name string) error {
	if name == "" || len(name) > 253 {
		return fmt.Errorf("it has %d characters", len(name))
	}
	for label := range strings.SplitSeq(name, ".") {
		if err := validLabel(label); err != nil {
			return err
		}
	}
	if !numeric(name[strings.LastIndexByte(name, '.')+1:]) {
		return nil
	}
	// A number at the end makes it an address for some resolvers, in a dozen
	// notations; only the usual one is let in.
	if ip, err := netip.ParseAddr(name); err != nil || !ip.Is4() {
		return fmt.Errorf("it ends in a number and is no IPv4 address")
	}
	return nil
}

// numeric reports whether some resolver may take a label for a number.
func numeric(label string) bool {
	digits := "0123456789"
	if rest, ok := strings.CutPrefix(label, "0x"); ok {
		label, digits = rest, digits+"abcdef"
	}
	return strings.Trim(label, digits) == ""
}

func validLabel(label string) error {
	if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
		return fmt.Errorf("invalid label %q", label)
	}
	for i := range len(label) {
		if c := label[i]; c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return fmt.Errorf("invalid character %q", c)
		}
	}
	return nil
}

// onHub reports whether a canonical host is Docker Hub.
func onHub(host string) bool { return host == dockerHub }
