package remote

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"

	"github.com/pullthrough/pullthrough/examples/proxy/admin"
)

// limitFlag adds -limit.
func limitFlag(k *call, flags *flag.FlagSet) {
	flags.IntVar(&k.how.limit, "limit", 100, "how many are listed at most, up to 500")
}

// copiesFlags adds the flags of copies.
func copiesFlags(k *call, flags *flag.FlagSet) {
	limitFlag(k, flags)
	flags.StringVar(&k.how.state, "state", "", "only copies in these `STATES`, such as paused,parked")
}

// listFlags adds the flags of ls.
func listFlags(k *call, flags *flag.FlagSet) {
	limitFlag(k, flags)
	flags.BoolVar(&k.how.bytes, "largest", false, "the largest repositories first")
}

// query returns the parameters of a list.
func (k *call) query(pairs ...string) url.Values {
	q := url.Values{"limit": {strconv.Itoa(k.how.limit)}}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return q
}

// list asks for something and shows it.
func list[T any](ctx context.Context, k *call, path string, q url.Values, table func(T, io.Writer)) error {
	data, err := k.client.Get(ctx, path, q)
	if err != nil {
		return err
	}
	return show(k, data, table)
}

// more prints that a list goes on.
func more(w io.Writer, next string) {
	if next != "" {
		fmt.Fprintln(w, "... and more: raise -limit, or use -json and the API's parameter after")
	}
}

// first returns the first argument, or an empty text.
func (k *call) first() string {
	if len(k.args) == 0 {
		return ""
	}
	return k.args[0]
}

func runCopies(ctx context.Context, k *call) error {
	return list(ctx, k, "copies", k.query("repository", k.first(), "state", k.how.state), func(l admin.CopyList, w io.Writer) {
		row(w, "STATE", "DONE", "OF", "CREATED", "COPY", "WHY")
		for _, c := range l.Copies {
			why := or(c.Error)
			if !c.Next.IsZero() {
				why += "; again at " + when(c.Next)
			}
			state := c.State
			if c.Elsewhere != "" {
				state += ", " + c.Elsewhere
			}
			row(w, state, size(c.Done), size(c.Total), c.Created, nameOf(c), why)
		}
		counts := []string{}
		for _, state := range []string{"queued", "running", "submitted", "waiting", "watching", "paused", "parked"} {
			if n := l.Counts[state]; n > 0 {
				counts = append(counts, fmt.Sprint(n, " ", state))
			}
		}
		fmt.Fprintln(w, strings.TrimSuffix(fmt.Sprint(l.Total, " copies: ", strings.Join(counts, ", ")), ": "))
		more(w, l.Next)
	})
}

// nameOf names what a copy copies.
func nameOf(c admin.Copy) string {
	if len(c.Tags) == 0 {
		return c.Repository + "@" + c.Digest
	}
	name := c.Repository + ":" + c.Tags[0]
	if n := len(c.Tags) - 1 + c.MoreTags; n > 0 {
		name += fmt.Sprintf(" and %d more tags", n)
	}
	return name
}

func runHeld(ctx context.Context, k *call) error {
	return list(ctx, k, "held", k.query("repository", k.first()), func(l admin.HeldList, w io.Writer) {
		row(w, "TAG", "HELD", "RULE", "SINCE", "UNTIL", "SERVED MEANWHILE", "WHY")
		for _, t := range l.Held {
			meanwhile := t.Former
			if meanwhile == "" {
				meanwhile = "nothing"
			}
			row(w, t.Repository+":"+t.Tag, t.Digest, or(t.Rule), t.Since, t.Until, meanwhile, t.Reason)
		}
		fmt.Fprintln(w, l.Total, "held")
		more(w, l.Next)
	})
}

func runExplain(ctx context.Context, k *call) error {
	repository, reference, err := split(k.args[0])
	if err != nil {
		return err
	}
	return list(ctx, k, "explain", url.Values{"repository": {repository}, "reference": {cmp.Or(reference, "latest")}}, func(x admin.Explanation, w io.Writer) {
		fmt.Fprintln(w, x.Text)
		if x.Digest != "" {
			row(w, "digest", x.Digest)
		}
		if x.Trouble != "" {
			row(w, "trouble", x.Trouble)
		}
		if x.Held != "" {
			row(w, "held", x.Held)
		}
		if !x.HeldUntil.IsZero() {
			row(w, "held until", x.HeldUntil)
		}
		if x.Copy != nil {
			row(w, "copy", x.Copy.ID+", "+x.Copy.State+", "+size(x.Copy.Done)+" of "+size(x.Copy.Total))
		}
	})
}

func runStats(ctx context.Context, k *call) error {
	return list(ctx, k, "stats", nil, func(s admin.Stats, w io.Writer) {
		for _, one := range []struct {
			name  string
			value any
		}{
			{"started", s.Started}, {"requests", s.Requests}, {"answered without any upstream", s.Hits}, {"bytes sent", size(s.Bytes)},
			{"bytes fetched", size(s.BytesFetched)}, {"tag checks", s.Checks}, {"pulls that shared a tag check", s.ChecksShared}, {"tags served without a check", s.Stale},
			{"manifests fetched", s.ManifestsFetched}, {"connections for blobs", s.BlobConnections}, {"segments", s.Segments}, {"requests that joined a download", s.Followers},
			{"blobs adopted", s.Adopted}, {"images copied", s.Copied}, {"copies that failed once", s.JobsFailed},
			{"copies without room", s.JobsDropped}, {"images evicted", s.Evicted}, {"bytes evicted", size(s.EvictedBytes)},
			{"trouble with the store", s.StoreErrors}, {"downloads now", s.Downloads}, {"readers of downloads now", s.Readers}, {"copies now", s.Jobs},
		} {
			row(w, one.name, one.value)
		}
	})
}

func runSize(ctx context.Context, k *call) error {
	return list(ctx, k, "store", url.Values{"wait": {"30s"}}, func(s admin.StoreSize, w io.Writer) {
		row(w, "content", size(s.Content))
		row(w, "beside", size(s.Overhead))
		if s.Free >= 0 {
			row(w, "free", size(s.Free))
		}
		row(w, "repositories", s.Repositories)
	})
}

func runList(ctx context.Context, k *call) error {
	if len(k.args) == 1 {
		return k.listRepository(ctx, k.args[0])
	}
	q := k.query("wait", "30s")
	if k.how.bytes {
		q.Set("order", "bytes")
	}
	return list(ctx, k, "repositories", q, func(l admin.RepositoryList, w io.Writer) {
		row(w, "REPOSITORY", "RULE", "BYTES")
		for _, r := range l.Repositories {
			row(w, r.Name, or(r.Rule), known(r.Bytes))
		}
		more(w, l.Next)
	})
}

// listRepository lists tags and manifests. With -json it prints one line for each of the two.
func (k *call) listRepository(ctx context.Context, repository string) error {
	err := list(ctx, k, "tags", k.query("repository", repository), func(l admin.TagList, w io.Writer) {
		row(w, "TAG", "DIGEST", "SOURCE")
		for _, t := range l.Tags {
			row(w, t.Name, t.Digest, or(t.Source))
		}
		more(w, l.Next)
		fmt.Fprintln(w)
	})
	if err != nil {
		return err
	}
	return list(ctx, k, "manifests", k.query("repository", repository), func(l admin.ManifestList, w io.Writer) {
		row(w, "MANIFEST", "BYTES", "LAST USE", "TYPE")
		for _, m := range l.Manifests {
			row(w, m.Digest, m.Size, m.LastUse, or(m.MediaType))
		}
		more(w, l.Next)
	})
}

func runRules(ctx context.Context, k *call) error {
	return list(ctx, k, "rules", k.query(), func(l admin.RuleList, w io.Writer) {
		row(w, "RULE", "SOURCE", "TARGET", "AUTHENTICATION", "HEALTH", "BYTES")
		for _, r := range l.Rules {
			proof, health := "-", "-"
			if a := r.Authentication; a != nil {
				proof, health = strings.TrimSpace(a.Kind+" "+a.Name), strings.TrimSpace(or(a.Health)+" "+a.HealthMessage)
			}
			row(w, r.Name, r.Source, r.Target, proof, health, known(r.Bytes))
		}
		more(w, l.Next)
	})
}

func runFleet(ctx context.Context, k *call) error {
	return list(ctx, k, "fleet", k.query(), func(f admin.Fleet, w io.Writer) {
		row(w, "REPLICA", "STATE")
		for _, m := range f.Members {
			state := "no trouble"
			switch {
			case m.Self:
				state = "this one"
			case m.Dead:
				state = "does not answer"
			}
			row(w, m.Address, state)
		}
		if len(f.Blobs) > 0 {
			fmt.Fprintln(w)
			row(w, "BLOB", "RULE", "SOURCE", "COMES FROM", "SENT TO REPLICAS")
		}
		for _, b := range f.Blobs {
			from := "upstream"
			if b.Connections == 0 {
				from = or(b.From)
			}
			row(w, b.Digest, or(b.Rule), b.Source, from, b.Served)
		}
		fmt.Fprintln(w, f.Total, "blobs under way,", size(f.Stats.BytesReceived), "received from replicas,", f.Stats.Failures, "requests to them failed")
	})
}

func runReceivers(ctx context.Context, k *call) error {
	return list(ctx, k, "receivers", k.query(), func(l admin.ReceiverList, w io.Writer) {
		row(w, "RECEIVER", "QUEUED", "OLDEST", "FAILURES", "LEFT ALONE UNTIL", "DELIVERED", "GIVEN UP", "DROPPED")
		for _, r := range l.Receivers {
			row(w, r.Name, r.Queued, r.Oldest, r.Failures, r.Paused, r.Delivered, r.GaveUp, r.Dropped)
		}
		more(w, l.Next)
	})
}

func runDeliveries(ctx context.Context, k *call) error {
	return list(ctx, k, "deliveries", k.query("receiver", k.args[0]), func(l admin.DeliveryList, w io.Writer) {
		row(w, "TIME", "EVENT", "ACTION", "SUBJECT", "TRY", "STATUS", "ERROR")
		for _, d := range l.Deliveries {
			row(w, d.Time, d.Event, d.Action, or(d.Subject), d.Attempt, d.Status, or(d.Error))
		}
	})
}
