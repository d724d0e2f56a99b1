package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/webhook"
)

// states are all states of a copy job.
func states() []cache.CopyStatus {
	return []cache.CopyStatus{cache.CopyQueued, cache.CopyRunning, cache.CopySubmitted, cache.CopyWaiting, cache.CopyWatching, cache.CopyPaused, cache.CopyParked}
}

// copies answers GET copies.
func (a *API) copies(r *http.Request) (any, error) {
	q, err := parameters(r, "state", "repository", "after", "limit")
	if err != nil {
		return nil, err
	}
	f := cache.CopyFilter{Repository: a.canonical(r.Context(), q.Get("repository"))}
	if f.Limit, err = limit(q); err != nil {
		return nil, err
	}
	if text := q.Get("state"); text != "" {
		for name := range strings.SplitSeq(text, ",") {
			if !slices.Contains(states(), cache.CopyStatus(name)) {
				return nil, wrong("state: %q is none of %v", short(name), states())
			}
			f.States = append(f.States, cache.CopyStatus(name))
		}
	}
	if text := q.Get("after"); text != "" {
		if f.After.Created, f.After.ID, err = parseCursor(text); err != nil {
			return nil, err
		}
	}
	p := a.Cache.CopiesPage(f)
	list := CopyList{Copies: []Copy{}, Counts: map[string]int{}}
	for state, n := range p.Counts {
		list.Counts[string(state)] = n.Jobs
		list.Total += n.Jobs
		if list.Oldest.IsZero() || n.Oldest.Before(list.Oldest) {
			list.Oldest = n.Oldest
		}
	}
	for _, s := range p.Copies {
		list.Copies = append(list.Copies, copyOf(s))
	}
	if p.More {
		last := p.Copies[len(p.Copies)-1]
		list.Next = cursor(last.Created, last.ID)
	}
	return list, nil
}

// copy answers GET copies/ID.
func (a *API) copy(r *http.Request, id string) (any, error) {
	if _, err := parameters(r); err != nil {
		return nil, err
	}
	p := a.Cache.CopiesPage(cache.CopyFilter{ID: id, Limit: 1})
	if len(p.Copies) == 0 {
		return nil, &Error{Status: http.StatusNotFound, Code: CodeNotFound, Message: "no copy has the ID " + short(id) + "; it may be finished"}
	}
	return copyOf(p.Copies[0]), nil
}

// copyOf is a copy job in JSON.
func copyOf(s cache.CopyState) Copy {
	c := Copy{
		ID: s.ID, Repository: s.Repository, Digest: s.Digest.String(), Rule: s.Source.Rule, State: string(s.State), Elsewhere: string(s.Elsewhere),
		Done: s.Done, Total: s.Total, Created: s.Created, Attempts: s.Attempts, Next: s.Next,
		Tags: s.Tags[:min(len(s.Tags), maxTags)], MoreTags: max(0, len(s.Tags)-maxTags),
	}
	if s.Source.Host != "" {
		c.Source = s.Source.String()
	}
	if s.Err != nil {
		c.Error = bound(s.Err.Error(), maxText)
	}
	return c
}

// explain answers GET explain.
func (a *API) explain(r *http.Request) (any, error) {
	q, err := parameters(r, "repository", "reference")
	if err != nil {
		return nil, err
	}
	repository, err := required(q, "repository")
	if err != nil {
		return nil, err
	}
	reference, err := required(q, "reference")
	if err != nil {
		return nil, err
	}
	x, err := a.Cache.Explain(r.Context(), repository, reference)
	if err != nil {
		return nil, err
	}
	out := Explanation{
		Repository: x.Repository, Reference: reference, Rule: x.Rule, Stored: x.Stored, Digest: x.Digest.String(), Fresh: x.Fresh,
		Held: x.Held.String(), Text: bound(x.Text, 2*maxText),
	}
	if x.Rule != "" {
		out.Source = x.Source.String()
	}
	if x.Copy != nil {
		c := copyOf(*x.Copy)
		out.Copy = &c
	}
	if x.Trouble != nil {
		out.Trouble = bound(x.Trouble.Error(), maxText)
	}
	if x.HeldErr != nil {
		out.HeldError = bound(x.HeldErr.Error(), maxText)
	}
	if !x.HeldUntil.IsZero() {
		out.HeldUntil = x.HeldUntil.UTC()
	}
	return out, nil
}

// stats answers GET stats.
func (a *API) stats(r *http.Request) (any, error) {
	if _, err := parameters(r); err != nil {
		return nil, err
	}
	s := a.Cache.Stats()
	return Stats{
		Started: a.Started, Requests: s.Requests, Hits: s.Hits, Bytes: s.Bytes, Checks: s.Checks,
		ChecksShared: s.ChecksShared, Stale: s.Stale,
		ManifestsFetched: s.ManifestsFetched, BytesFetched: s.BytesFetched, BlobConnections: s.BlobConnections,
		Segments: s.Segments, Followers: s.Followers, Adopted: s.Adopted, Copied: s.Copied, JobsFailed: s.JobsFailed, JobsDropped: s.JobsDropped,
		Evicted: s.Evicted, EvictedBytes: s.EvictedBytes, StoreErrors: s.StoreErrors, Downloads: s.Downloads,
		Readers: s.Readers, Jobs: s.Jobs,
	}, nil
}

// receivers answers GET receivers.
func (a *API) receivers(r *http.Request) (any, error) {
	q, err := parameters(r, "after", "limit")
	if err != nil {
		return nil, err
	}
	most, err := limit(q)
	if err != nil {
		return nil, err
	}
	list := ReceiverList{Receivers: []Receiver{}}
	if a.Outbox == nil {
		return list, nil
	}
	all := a.Outbox.States()
	if after := q.Get("after"); after != "" {
		i := slices.IndexFunc(all, func(s webhook.ReceiverState) bool { return s.Name == after })
		if i < 0 {
			return nil, wrong("after: no receiver is called %q", short(after))
		}
		all = all[i+1:]
	}
	for _, s := range all[:min(len(all), most)] {
		one := Receiver{
			Name: s.Name, Queued: s.Queued, Oldest: s.Oldest, Failures: s.Failures, Paused: s.Paused,
			Delivered: s.Delivered, GaveUp: s.GaveUp, Dropped: s.Dropped,
		}
		for _, c := range a.Outbox.Receivers {
			if c.Name == s.Name {
				one.Scope, one.Actions = string(c.Scope), c.Actions
			}
		}
		list.Receivers = append(list.Receivers, one)
	}
	if len(all) > most {
		list.Next = all[most-1].Name
	}
	return list, nil
}

// deliveries answers GET deliveries.
func (a *API) deliveries(r *http.Request) (any, error) {
	q, err := parameters(r, "receiver", "limit")
	if err != nil {
		return nil, err
	}
	most, err := limit(q)
	if err != nil {
		return nil, err
	}
	receiver, err := required(q, "receiver")
	if err != nil {
		return nil, err
	}
	outbox, err := a.outbox(receiver)
	if err != nil {
		return nil, err
	}
	all, err := outbox.Deliveries(receiver)
	if err != nil {
		return nil, err
	}
	list := DeliveryList{Deliveries: []Delivery{}}
	for _, d := range all[:min(len(all), most)] {
		list.Deliveries = append(list.Deliveries, deliveryOf(d))
	}
	return list, nil
}

// outbox returns the outbox, which a receiver needs.
func (a *API) outbox(receiver string) (*webhook.Outbox, error) {
	if a.Outbox == nil {
		return nil, &Error{Status: http.StatusNotFound, Code: CodeNotFound, Message: "no receiver is called " + short(receiver)}
	}
	return a.Outbox, nil
}

// deliveryOf is a delivery in JSON.
func deliveryOf(d webhook.Delivery) Delivery {
	out := Delivery{
		Receiver: d.Receiver, Event: d.Event.ID, Action: d.Event.Action, Subject: d.Event.Subject(), Attempt: d.Attempt,
		Time: d.Time, Millis: d.Duration.Milliseconds(), Error: bound(d.Error, maxText),
	}
	if d.Response != nil {
		out.Status = d.Response.StatusCode
	}
	return out
}

// canonical returns the canonical name of a repository, or the name itself if no rule covers
// it.
func (a *API) canonical(ctx context.Context, name string) string {
	if name == "" || a.Rules == nil {
		return name
	}
	if m, err := a.Rules.Match(ctx, name); err == nil {
		return m.Repository
	}
	return name
}

// lister returns the lists of the store.
func (a *API) lister() (store.Lister, error) {
	if l, ok := store.As[store.Lister](a.Store); ok {
		return l, nil
	}
	return nil, errors.ErrUnsupported
}
