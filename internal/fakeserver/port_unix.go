//go:build unix

package fakeserver

import "syscall"

// keepPort takes a port of 127.0.0.1 and does not listen: connections are refused.
func keepPort(port int, with sharing) (release func(), err error) {
	syscall.ForkLock.RLock() // no process that is started meanwhile may inherit it
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, err
	}
	share := func() error { return syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1) }
	if with == besideConnections {
		err = share()
	}
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
	}
	if err == nil {
		err = share() // with the server that listens there, not with another socket like this one
	}
	if err != nil {
		_ = syscall.Close(fd)
		return nil, err
	}
	return func() { _ = syscall.Close(fd) }, nil
}
