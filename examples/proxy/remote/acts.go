package remote

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/pullthrough/pullthrough/examples/proxy/admin"
)

// prefetchFlags adds the flags of prefetch.
func prefetchFlags(k *call, flags *flag.FlagSet) {
	flags.StringVar(&k.how.platforms, "platforms", "", "only these `PLATFORMS` of an index, such as linux/amd64,linux/arm64, or pulled; default: all")
}

// checkFlags adds the flags of check.
func checkFlags(k *call, flags *flag.FlagSet) {
	flags.BoolVar(&k.how.repair, "repair", false, "remove what is damaged, so that it is fetched again when it is pulled")
	flags.Int64Var(&k.how.rate, "rate", 0, "how many `BYTES` are read in a second; default: 32 MiB; negative: no limit")
}

// allFlag returns the function that adds -all.
func allFlag(what string) func(*call, *flag.FlagSet) {
	return func(k *call, flags *flag.FlagSet) {
		flags.BoolVar(&k.how.all, "all", false, what)
	}
}

// split splits REPOSITORY[:TAG|@DIGEST].
func split(name string) (repository, reference string, err error) {
	repository, reference, ok := strings.Cut(name, "@")
	if i := strings.LastIndexByte(name, ':'); !ok && i > strings.LastIndexByte(name, '/') {
		repository, reference, ok = name[:i], name[i+1:], true
	}
	if ok && reference == "" {
		return "", "", &usageError{fmt.Sprintf("%q has no tag or digest at its end", name)}
	}
	return repository, reference, nil
}

func runPrefetch(ctx context.Context, k *call) error {
	var failed error
	for _, name := range k.args {
		repository, reference, err := split(name)
		if err != nil {
			return err
		}
		t := admin.Target{Repository: repository, Reference: cmp.Or(reference, "latest")}
		if k.how.platforms != "" {
			t.Platforms = strings.Split(k.how.platforms, ",")
		}
		err = k.prefetch(ctx, name, t)
		if err != nil && len(k.args) > 1 {
			err = fmt.Errorf("%s: %w", name, err)
		}
		if err != nil && (ctx.Err() != nil || exitCode(err) == ExitUnreachable || exitCode(err) == ExitRefused) {
			return err // so it would be with the others
		}
		if err != nil && failed != nil {
			fmt.Fprintln(k.Stderr, "proxy prefetch:", clean(failed.Error()))
		}
		if err != nil {
			failed = err
		}
	}
	return failed
}

// prefetch copies one image.
func (k *call) prefetch(ctx context.Context, name string, t admin.Target) error {
	b := &bar{out: k.Stdout, width: k.Width, name: clean(name), quiet: k.json}
	defer b.end()
	data, last, err := k.client.Stream(ctx, "prefetch", t, func(data []byte, line admin.Line) error {
		b.update(line.Done, line.Total)
		return k.raw(data)
	})
	if err == nil {
		b.update(last.Done, last.Total)
	}
	b.end()
	if k.json {
		_ = k.raw(data) // the error of the stream says more
		return err
	}
	if err == nil {
		_, err = fmt.Fprintf(k.Stdout, "%s: done, %s, %s\n", clean(name), size(last.Total), clean(last.Digest))
	}
	return err
}

// raw prints a line of a stream, if that was asked for.
func (k *call) raw(data []byte) error {
	if !k.json || len(data) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(k.Stdout, "%s\n", data)
	return err
}

func runCheck(ctx context.Context, k *call) error {
	data, last, err := k.client.Stream(ctx, "check", admin.CheckOptions{Repair: k.how.repair, Rate: k.how.rate}, func(data []byte, line admin.Line) error {
		if k.json || line.Fault == nil {
			return k.raw(data)
		}
		f := line.Fault
		place := strings.Join(strings.Fields(f.Repository+" "+f.Tag+" "+f.Digest), " ")
		if f.Repaired {
			f.Problem += " (repaired)"
		}
		_, err := fmt.Fprintln(k.Stdout, clean(place+": "+f.Problem))
		return err
	})
	if k.json {
		_ = k.raw(data) // the error of the stream says more
	}
	if err != nil {
		return err
	}
	if !k.json {
		fmt.Fprintln(k.Stdout, "checked, faults:", last.Faults)
	}
	if last.Faults > 0 && !k.how.repair {
		return errFaults
	}
	return nil
}

// act acts and shows the answer.
func act[T any](ctx context.Context, k *call, path string, body any, text func(T) string) error {
	data, err := k.client.Post(ctx, path, body)
	if err != nil {
		return err
	}
	return show(k, data, func(answer T, w io.Writer) { fmt.Fprintln(w, text(answer)) })
}

func runRetry(ctx context.Context, k *call) error {
	t := admin.Target{All: k.how.all}
	if t.All == (len(k.args) == 1) {
		return &usageError{"give REPOSITORY, perhaps with :TAG or @DIGEST, or -all"}
	}
	var err error
	if t.Repository, t.Reference, err = split(k.first()); err != nil {
		return err
	}
	return act(ctx, k, "retry", t, func(r admin.Retried) string { return fmt.Sprint("copies that are tried again: ", r.Copies) })
}

func runDelete(ctx context.Context, k *call) error {
	t := admin.Target{All: k.how.all}
	var err error
	if t.Repository, t.Reference, err = split(k.args[0]); err != nil {
		return err
	}
	if t.All == (t.Reference != "") {
		return &usageError{"give REPOSITORY:TAG or REPOSITORY@DIGEST, or -all REPOSITORY"}
	}
	return act(ctx, k, "delete", t, func(admin.Deleted) string { return "deleted " + k.args[0] })
}

func runEvict(ctx context.Context, k *call) error {
	return act(ctx, k, "evict", struct{}{}, func(e admin.Evicted) string {
		text := fmt.Sprintf("evicted: %d images, %s", e.Images, size(e.Bytes))
		for _, u := range e.Unmet {
			text += "\nnot met: " + u
		}
		return text
	})
}

func runResend(ctx context.Context, k *call) error {
	return act(ctx, k, "resend", admin.Resent{Receiver: k.args[0], Event: k.args[1]}, func(admin.Resent) string {
		return "the event is the next one that the receiver gets"
	})
}

func runPing(ctx context.Context, k *call) error {
	data, err := k.client.Post(ctx, "ping", admin.Resent{Receiver: k.args[0]})
	if err != nil {
		return err
	}
	var d admin.Delivery
	if err := json.Unmarshal(data, &d); err != nil {
		return fmt.Errorf("the proxy answered in another form: %w", err)
	}
	err = show(k, data, func(d admin.Delivery, w io.Writer) {
		if d.Error == "" {
			fmt.Fprintf(w, "the receiver answered with status %d after %d ms\n", d.Status, d.Millis)
		}
	})
	if err == nil && d.Error != "" {
		err = fmt.Errorf("the ping failed: %s", d.Error)
	}
	return err
}
