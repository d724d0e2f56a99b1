//go:build unix

package fakeserver

import (
	"net"
	"syscall"
)

// hold keeps a port that nothing listens to any more: connections to it are
// refused, and the system gives it to nobody else until release is called. It
// does nothing if the port cannot be kept.
func hold(address string) (release func()) {
	tcp, err := net.ResolveTCPAddr("tcp4", address)
	if err != nil {
		return func() {}
	}
	syscall.ForkLock.RLock() // no process that is started meanwhile may inherit it
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return func() {}
	}
	// Connections that are about to end may have the port still.
	err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Port: tcp.Port, Addr: [4]byte(tcp.IP.To4())})
	}
	if err != nil {
		_ = syscall.Close(fd)
		return func() {}
	}
	return func() { _ = syscall.Close(fd) }
}
