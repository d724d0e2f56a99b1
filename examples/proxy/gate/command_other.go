//go:build !unix

package gate

import "os/exec"

// alone does nothing where there are no groups of processes: what a program starts may
// outlive it.
func alone(*exec.Cmd) {}
