package e2e

import (
	"os/exec"
	"syscall"
)

// bindToTests has the kernel end a process when the process of the tests ends, however that
// happens. The kernel means the thread that started it, which lives as long as the tests do:
// Go ends only threads that a goroutine has locked.
func bindToTests(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
}
