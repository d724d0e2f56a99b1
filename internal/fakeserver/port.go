package fakeserver

import (
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
)

// These ports are below those that a system gives to listeners that ask for any, and to connections.
const (
	firstPort = 20000
	ports     = 10000
)

// Reserve returns a loopback address that nothing listens to, for a server that cannot
// pick one itself. On Linux no other Reserve, of this process or of another one, returns
// it until release is called. A server that sets SO_REUSEADDR, as those of Go and of
// Node.js do, may listen there meanwhile, end, and come back.
func Reserve() (address string, release func(), err error) {
	for range 100 {
		port := firstPort + rand.IntN(ports)
		if release, err = reserve(port); err == nil {
			return fmt.Sprint("127.0.0.1:", port), release, nil
		}
	}
	return "", nil, fmt.Errorf("no port is free: %w", err)
}

// reserve takes a port that no socket has.
func reserve(port int) (release func(), err error) {
	if runtime.GOOS == "linux" {
		return keepPort(port, alone)
	}
	// Other systems do not let a server listen where a socket is bound.
	l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
	if err != nil {
		return nil, err
	}
	return func() {}, l.Close()
}

// hold keeps the port of an address that nothing listens to any more: on Unix systems
// nobody else is given it until release is called, or until the process ends.
func hold(address string) (release func()) {
	tcp, err := net.ResolveTCPAddr("tcp", address)
	if err == nil {
		release, err = keepPort(tcp.Port, besideConnections)
	}
	if err != nil {
		return func() {} // a port that is not kept is free, as it is without this
	}
	return release
}

// sharing says which sockets may have a port already when it is taken.
type sharing int

const (
	alone             sharing = iota // none
	besideConnections                // connections that are about to end
)
