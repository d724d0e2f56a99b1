//go:build !unix

package fakeserver

import "errors"

// keepPort is for Unix systems alone.
func keepPort(int, sharing) (release func(), err error) { return nil, errors.ErrUnsupported }
