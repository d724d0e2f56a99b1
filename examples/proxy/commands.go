package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"golang.org/x/term"

	"github.com/pullthrough/pullthrough/examples/proxy/remote"
)

// command is a subcommand. Its run returns the exit code.
type command struct {
	name, arguments, summary string
	run                      func(ctx context.Context, args []string, stdout, stderr io.Writer) int
}

// commands returns the subcommands, in the order in which help lists them.
func commands() []command {
	list := []command{
		{"help", "[COMMAND]", "list the commands, or describe one", runHelp},
		{"store", "ls|check DIR ...", "look into a store that no proxy has open", runStore},
	}
	for _, c := range remote.Commands() {
		list = append(list, command{c.Name, c.Arguments, c.Summary, runRemote(c)})
	}
	return list
}

// find returns the command with a name.
func find(name string) (command, bool) {
	for _, c := range commands() {
		if c.name == name {
			return c, true
		}
	}
	return command{}, false
}

// runRemote returns the run of a command that needs a running proxy.
func runRemote(c remote.Command) func(context.Context, []string, io.Writer, io.Writer) int {
	return func(ctx context.Context, args []string, stdout, stderr io.Writer) int {
		return c.Run(ctx, args, remote.Environment{Stdout: stdout, Stderr: stderr, Getenv: os.Getenv, Width: width(stdout), Settings: adminTarget})
	}
}

// width returns the width of a terminal, or zero if out is none.
func width(out io.Writer) int {
	f, ok := out.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return 0
	}
	w, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return w
}

// adminTarget returns what a file says about the admin address. Only the keys about it need to be
// right, since a running proxy may have read a former file.
func adminTarget(file string) (remote.Target, error) {
	c, found := load(file)
	if err := found.err(); err != nil {
		return remote.Target{}, err
	}
	if c.admin.text == "" {
		return remote.Target{}, fmt.Errorf("%s: there is no admin address in it", file)
	}
	a := c.adminAccess
	t := remote.Target{Address: dialled(c.admin.text)}
	if a.tls.cert.text != "" {
		t.Address = "https://" + t.Address
		t.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if secret := a.token.secret(nil, word{}, found); secret != nil {
		// A token that cannot be read here may not be needed, or may come from elsewhere.
		if text, _, err := secret.Read(context.Background()); err == nil {
			t.Token = text.Reveal()
		}
	}
	return t, found.err()
}

// dialled returns the address to dial for one to listen on.
func dialled(listen string) string {
	for _, all := range []string{"0.0.0.0:", "[::]:"} {
		if port, ok := strings.CutPrefix(listen, all); ok {
			return "localhost:" + port
		}
	}
	if strings.HasPrefix(listen, ":") {
		return "localhost" + listen
	}
	return listen
}

// usage is how the program is called without a subcommand.
const usage = `usage: proxy -config FILE           serve
       proxy -check -config FILE    print the mistakes in FILE, or "ok: ..."
       proxy -schema                print the JSON schema of the file
       proxy COMMAND ...            act; "proxy help COMMAND" describes it
`

// runHelp lists the commands, or describes one.
func runHelp(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 {
		c, ok := find(strings.Join(args, " "))
		if !ok {
			fmt.Fprintf(stderr, "there is no command %q; proxy help lists them\n", strings.Join(args, " "))
			return exitUsage
		}
		if c.name != "help" {
			return c.run(ctx, []string{"-h"}, stdout, stdout)
		}
	}
	fmt.Fprint(stdout, usage, "\nThe commands. All but store need a running proxy: -admin ADDRESS, -config FILE or PROXY_ADMIN say which;\n",
		"-token-file FILE or PROXY_TOKEN has the token that acting needs.\n\n")
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	for _, c := range commands() {
		fmt.Fprintf(w, "  %s\t%s\t%s\n", c.name, c.arguments, c.summary)
	}
	if err := errors.Join(w.Flush(), second(fmt.Fprintln(stdout, "\n"+remote.ExitCodes))); err != nil {
		return exitFault
	}
	return exitOK
}

// second returns the error of a write.
func second(_ int, err error) error { return err }
