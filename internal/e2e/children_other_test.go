//go:build !linux

package e2e

import "os/exec"

// bindToTests does nothing where the kernel cannot do it.
func bindToTests(*exec.Cmd) {}
