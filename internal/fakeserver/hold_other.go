//go:build !unix

package fakeserver

// hold keeps nothing: this system may give the port to another program meanwhile.
func hold(string) (release func()) { return func() {} }
