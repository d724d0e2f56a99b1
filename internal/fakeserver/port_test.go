package fakeserver_test

import (
	"errors"
	"net"
	"runtime"
	"syscall"
	"testing"

	"github.com/pullthrough/pullthrough/internal/fakeserver"
)

// TestReservedPortsAreDistinct reserves so many ports that of ports chosen by chance some would
// be the same.
func TestReservedPortsAreDistinct(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("this system keeps no ports")
	}
	seen := map[string]bool{}
	for range 500 {
		address, release, err := fakeserver.Reserve()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(release)
		if seen[address] {
			t.Fatalf("%s is given twice", address)
		}
		seen[address] = true
	}
}

// TestServerAtAReservedPort listens, ends and comes back there. While it is down, connections
// are refused.
func TestServerAtAReservedPort(t *testing.T) {
	address, release, err := fakeserver.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	for range 3 {
		if c, err := net.Dial("tcp", address); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("%v, %v", c, err)
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
		_ = c.Close()
	}
}
