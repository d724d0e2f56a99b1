package remote

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/proxy/admin"
)

// The exit codes of a command.
const (
	ExitDone        = 0
	ExitFailed      = 1 // it was tried and did not work, such as a prefetch of what the upstream does not have, or a check with faults
	ExitUsage       = 2
	ExitUnreachable = 3 // no proxy answers at the admin address
	ExitRefused     = 4 // the proxy refuses: the token is missing or wrong, or acting is off
	ExitNotThere    = 5 // the proxy has no such thing
)

// ExitCodes describes the exit codes in a few lines, for help.
const ExitCodes = `exit codes: 0 done, 1 failed, 2 usage, 3 the proxy cannot be reached,
4 refused (no token, a wrong one, or acting is off), 5 there is no such thing`

// Environment is what a command has around it.
type Environment struct {
	Stdout, Stderr io.Writer
	// Getenv returns a variable of the environment.
	Getenv func(string) string
	// Width is the width of the terminal that Stdout is. If zero, it is no terminal, and there
	// are no progress bars.
	Width int
	// Settings returns the target that a file of the proxy describes.
	Settings func(file string) (Target, error)
}

// Command is a subcommand that needs a running proxy.
type Command struct {
	// Name is how it is called, Arguments what follows the flags, and Summary what it does.
	Name, Arguments, Summary string

	least, most int // arguments; most is negative if there is no limit
	flags       func(*call, *flag.FlagSet)
	run         func(context.Context, *call) error
}

// call is one run of a command.
type call struct {
	Environment
	command *Command
	client  *Client
	args    []string
	json    bool
	how     options
}

// options are the flags that only some commands have.
type options struct {
	state     string
	all       bool
	limit     int
	platforms string
	repair    bool
	rate      int64
	bytes     bool
}

// usageError is a mistake on the command line.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

// errFaults reports a check that found something.
var errFaults = errors.New("the store has faults: with -repair they are removed")

// Commands returns the subcommands, in the order in which help lists them.
func Commands() []Command {
	return []Command{
		{Name: "copies", Arguments: "[REPOSITORY]", Summary: "list the copies that are not finished", most: 1, flags: copiesFlags, run: runCopies},
		{Name: "held", Arguments: "[REPOSITORY]", Summary: "list the tags whose new image is not admitted", most: 1, flags: limitFlag, run: runHeld},
		{Name: "explain", Arguments: "REPOSITORY[:TAG|@DIGEST]", Summary: "say what a pull would do now, and why", least: 1, most: 1, run: runExplain},
		{Name: "prefetch", Arguments: "REPOSITORY[:TAG|@DIGEST] ...", Summary: "copy images before a client pulls them", least: 1, most: -1, flags: prefetchFlags, run: runPrefetch},
		{Name: "retry", Arguments: "REPOSITORY[:TAG|@DIGEST] | -all", Summary: "try copies again that failed", most: 1, flags: allFlag("every copy"), run: runRetry},
		{Name: "delete", Arguments: "REPOSITORY:TAG | REPOSITORY@DIGEST | -all REPOSITORY", Summary: "forget a tag, an image or a repository here", least: 1, most: 1, flags: allFlag("the whole repository"), run: runDelete},
		{Name: "evict", Summary: "give up now what the limits of eviction ask for", run: runEvict},
		{Name: "check", Summary: "look for damage in the store", flags: checkFlags, run: runCheck},
		{Name: "stats", Summary: "show the counters", run: runStats},
		{Name: "store size", Summary: "show how much is stored", run: runSize},
		{Name: "store check", Summary: "the same as check", flags: checkFlags, run: runCheck},
		{Name: "store ls", Arguments: "[REPOSITORY]", Summary: "list what is stored, or what is in a repository", most: 1, flags: listFlags, run: runList},
		{Name: "rules", Summary: "list the rules and the health of their credentials", flags: limitFlag, run: runRules},
		{Name: "fleet", Summary: "list the replicas that share their downloads, and what is under way", flags: limitFlag, run: runFleet},
		{Name: "receivers", Summary: "list the receivers of events", flags: limitFlag, run: runReceivers},
		{Name: "deliveries", Arguments: "RECEIVER", Summary: "list the last deliveries to a receiver", least: 1, most: 1, flags: limitFlag, run: runDeliveries},
		{Name: "resend", Arguments: "RECEIVER EVENT", Summary: "deliver an event again, before all others", least: 2, most: 2, run: runResend},
		{Name: "ping", Arguments: "RECEIVER", Summary: "send a ping to a receiver", least: 1, most: 1, run: runPing},
	}
}

// Find returns the command with a name.
func Find(name string) (Command, bool) {
	for _, c := range Commands() {
		if c.Name == name {
			return c, true
		}
	}
	return Command{}, false
}

// Run runs a command and returns its exit code.
func (c Command) Run(ctx context.Context, args []string, env Environment) int {
	k := &call{Environment: env, command: &c}
	if code, ok := k.parse(args); !ok {
		return code
	}
	defer k.client.Close()
	err := c.run(ctx, k)
	if err != nil && ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	if err != nil {
		fmt.Fprintln(env.Stderr, "proxy "+c.Name+":", clean(err.Error()))
	}
	return exitCode(err)
}

// parse reads flags and arguments. If it returns false, the program ends with code.
func (k *call) parse(args []string) (code int, ok bool) {
	c := k.command
	flags := flag.NewFlagSet("proxy "+c.Name, flag.ContinueOnError)
	flags.SetOutput(k.Stderr)
	flags.Usage = func() {
		fmt.Fprintf(k.Stderr, "usage: proxy %s [flags] %s\n%s. The flags:\n", c.Name, c.Arguments, c.Summary)
		flags.PrintDefaults()
		fmt.Fprintln(k.Stderr, ExitCodes)
	}
	where := whereFlags(flags)
	flags.BoolVar(&k.json, "json", false, "print what the proxy answers, in JSON; a stream has one line for each step")
	if c.flags != nil {
		c.flags(k, flags)
	}
	rest, err := parseMixed(flags, args)
	if err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return ExitDone, false
		}
		return ExitUsage, false
	}
	k.args = rest
	if len(k.args) < c.least || c.most >= 0 && len(k.args) > c.most {
		fmt.Fprintf(k.Stderr, "usage: proxy %s [flags] %s\n", c.Name, c.Arguments)
		return ExitUsage, false
	}
	target, err := where.target(k.Environment)
	if err == nil {
		k.client, err = NewClient(target)
	}
	if err != nil {
		fmt.Fprintln(k.Stderr, "proxy "+c.Name+":", err)
		return ExitUsage, false
	}
	return 0, true
}

// parseMixed parses flags wherever they stand, and returns the other arguments.
func parseMixed(flags *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		if err := flags.Parse(args); err != nil {
			return nil, err
		}
		left := flags.Args()
		if len(left) == 0 {
			return rest, nil
		}
		if n := len(args) - len(left); n > 0 && args[n-1] == "--" {
			return append(rest, left...), nil
		}
		rest, args = append(rest, left[0]), left[1:]
	}
}

// exitCode returns the exit code of an error.
func exitCode(err error) int {
	if err == nil {
		return ExitDone
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		return ExitUsage
	}
	if errors.Is(err, ErrUnreachable) {
		return ExitUnreachable
	}
	e, ok := errors.AsType[*admin.Error](err)
	if !ok {
		return ExitFailed
	}
	switch e.Code {
	case admin.Code(cache.CodeNameInvalid), admin.Code(cache.CodeDigestInvalid):
		return ExitUsage
	case admin.CodeOff, admin.CodeUnauthorized, admin.CodeHost, admin.CodeCrossSite, admin.CodeToken:
		return ExitRefused
	case admin.CodePath, admin.CodeParameter, admin.CodeBody, admin.CodeBodySize, admin.CodeContentType, admin.CodeMethod:
		return ExitUsage
	}
	if e.Status == http.StatusNotFound {
		return ExitNotThere
	}
	return ExitFailed
}
