//go:build !linux

package fakeserver

import (
	"fmt"
	"net"
)

// reserve only looks: other systems do not let a server listen where a socket is bound.
func reserve(port int) (release func(), err error) {
	l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
	if err != nil {
		return nil, err
	}
	return func() {}, l.Close()
}
