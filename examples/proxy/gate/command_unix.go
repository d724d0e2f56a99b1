//go:build unix

package gate

import (
	"os"
	"os/exec"
	"syscall"
)

// alone has a program and what it starts end together.
func alone(run *exec.Cmd) {
	run.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	run.Cancel = func() error {
		if err := syscall.Kill(-run.Process.Pid, syscall.SIGKILL); err != syscall.ESRCH {
			return err
		}
		return os.ErrProcessDone
	}
}
