package gate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// Command is a gate that runs a program for each question, with the question as JSON on
// its standard input. The exit code 0 admits; any other refuses, with the first line of its
// standard error as the reason. A program that cannot be run, or does not end in time, is
// no answer; it is killed, with what it has started.
//
// The program gets few variables of the environment, since credentials of the cache may be
// among the others: PATH, HOME, TMPDIR, LANG, LC_ALL, TZ, SSL_CERT_FILE and SSL_CERT_DIR.
type Command struct {
	// Args are the program, looked for in PATH if it has no slash, and its arguments. No
	// shell is between.
	Args []string
}

// inherited are the variables that a program gets.
var inherited = [...]string{"PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR"}

// killWait is how long a program that was killed may keep its output open.
const killWait = time.Second

// Check reports a program that cannot be found.
func (c *Command) Check() error {
	if len(c.Args) == 0 {
		return errors.New("there is no program")
	}
	if _, err := exec.LookPath(c.Args[0]); err != nil {
		return fmt.Errorf("%q is no program that can be run: %w", c.Args[0], errors.Unwrap(err))
	}
	return nil
}

// Ask implements [Asker].
func (c *Command) Ask(ctx context.Context, q Question) (Answer, error) {
	if len(c.Args) == 0 {
		return Answer{}, errors.New("there is no program")
	}
	in, err := json.Marshal(q)
	if err != nil {
		return Answer{}, err
	}
	var said limited
	run := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	run.Stdin, run.Stderr, run.WaitDelay = bytes.NewReader(append(in, '\n')), &said, killWait
	run.Env = []string{} // nil would be everything
	for _, name := range inherited {
		if value, ok := os.LookupEnv(name); ok {
			run.Env = append(run.Env, name+"="+value)
		}
	}
	alone(run)
	err = run.Run()
	exit, exited := errors.AsType[*exec.ExitError](err)
	switch {
	case ctx.Err() != nil:
		return Answer{}, fmt.Errorf("the program did not end in time: %w", context.Cause(ctx))
	case err == nil, errors.Is(err, exec.ErrWaitDelay): // it admitted, and left a program behind
		return Answer{Admitted: true}, nil
	case exited && exit.Exited():
		reason := line(string(said.data))
		if reason == noReason {
			reason = fmt.Sprintf("exit code %d", exit.ExitCode())
		}
		return Answer{Reason: reason}, nil
	}
	return Answer{}, fmt.Errorf("the program failed: %w", err)
}
