package main

import (
	"strings"
	"testing"
)

// TestExposed: an address that is not surely loopback counts as reachable for others.
func TestExposed(t *testing.T) {
	for listen, want := range map[string]bool{
		"127.0.0.1:5000": false, "127.8.8.8:5000": false, "[::1]:5000": false, "[::ffff:127.0.0.1]:5000": false,
		"localhost:5000": false, "LocalHost.:5000": false,
		":5000": true, "0.0.0.0:5000": true, "[::]:5000": true, "10.0.0.1:5000": true, "192.0.2.7:5000": true, "[2001:db8::1]:5000": true,
		"[fe80::1%eth0]:5000": true, "[::ffff:10.0.0.1]:5000": true, "cache.example.com:5000": true, "localhost.example.com:5000": true, "127.1:5000": true,
	} {
		if got := exposed(listen); got != want {
			t.Errorf("exposed(%q) = %t, want %t", listen, got, want)
		}
	}
}

// TestExposedIsTold: one warning at the start says what strangers can do and how to prevent
// it. On loopback there is none.
func TestExposedIsTold(t *testing.T) {
	for listen, want := range map[string]int{"127.0.0.1:0": 0, "localhost:0": 0, "0.0.0.0:0": 1, "'[::]:0'": 1, "':0'": 1} {
		t.Run(listen, func(t *testing.T) {
			p := startProxy(t, "listen: "+listen+"\n")
			p.signal(t)
			p.wantExit(t, exitOK)
			var told []string
			for line := range strings.Lines(p.log.String()) {
				if strings.Contains(line, "not authorized") {
					told = append(told, line)
				}
			}
			if len(told) != want {
				t.Fatalf("%d warnings, want %d: %q", len(told), want, told)
			}
			for _, line := range told {
				for _, word := range []string{"level=WARN", "anybody who can reach this address", "credentials of the rules", "under access", "listen on loopback"} {
					if !strings.Contains(line, word) {
						t.Errorf("%q is not in %s", word, line)
					}
				}
			}
		})
	}
}
