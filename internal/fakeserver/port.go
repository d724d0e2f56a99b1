package fakeserver

import (
	"fmt"
	"math/rand/v2"
)

// Below the ports that a system gives to listeners that ask for any, and to connections.
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
