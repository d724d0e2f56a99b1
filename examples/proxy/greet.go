package main

import (
	"fmt"
	"net"
	"strings"
)

// summary describes a file in one line.
func (s *settings) summary() string {
	parts := []string{
		count(s.ruleCount, "rule"),
		count(len(s.credentials), "credential set"),
	}
	switch s.identityCount {
	case 0:
	case 1:
		parts = append(parts, "1 identity")
	default:
		parts = append(parts, fmt.Sprint(s.identityCount, " identities"))
	}
	if len(s.receivers) > 0 {
		parts = append(parts, count(len(s.receivers), "webhook"))
	}
	parts = append(parts,
		"store "+s.storeName(),
		"listen "+s.listen,
	)
	return strings.Join(parts, ", ")
}

// greeting is the line at the start: the address, the size of the configuration, and a
// command to try.
func (s *settings) greeting(address net.Addr) string {
	scheme := "http"
	if s.certificate != nil {
		scheme = "https"
	}
	what := count(s.ruleCount, "rule")
	if len(s.receivers) > 0 {
		what += ", " + count(len(s.receivers), "webhook")
	}
	return fmt.Sprintf("listening on %s://%s, %s, store %s; %s", scheme, address, what, s.storeName(), s.next(address))
}

// next suggests a next step.
func (s *settings) next(address net.Addr) string {
	if s.example == "" {
		return "next: add a rule to the file"
	}
	return "try: docker pull " + reachable(address) + "/" + s.example
}

// example returns a name that a rule with this source and target covers.
func example(source, target string) string {
	base, wild := strings.CutSuffix(target, "*")
	if !wild {
		return target
	}
	// Everybody knows this repository.
	if source == "docker.io/*" || source == "docker.io/library/*" {
		name := strings.TrimPrefix("library/alpine", strings.TrimSuffix(strings.TrimPrefix(source, "docker.io/"), "*"))
		return base + name
	}
	return base + "NAME:TAG"
}

// reachable returns an address that can be dialled, also for a listener on all addresses.
func reachable(address net.Addr) string {
	tcp, ok := address.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return address.String()
	}
	return fmt.Sprintf("localhost:%d", tcp.Port)
}

// count writes "1 rule", "2 rules".
func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprint(n, " ", what)
}
