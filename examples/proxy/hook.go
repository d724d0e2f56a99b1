package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/webhook"
)

// hook posts events to one receiver. Its URL, headers and signing secrets are read at each
// use, as those of credentials are: a file may change while the proxy runs, and while one
// cannot be read, events wait, and the proxy goes on.
type hook struct {
	url      auth.Secret
	headers  map[string]auth.Secret
	secrets  []auth.Secret
	encoding webhook.Encoding
	source   string
}

// Send implements [webhook.Sink].
func (h *hook) Send(ctx context.Context, ev webhook.Event) error { return h.Deliver(ctx, ev).Err }

// Deliver implements [webhook.Deliverer].
func (h *hook) Deliver(ctx context.Context, ev webhook.Event) webhook.Delivery {
	sink, err := h.sink(ctx)
	if err != nil {
		return webhook.Delivery{Event: ev, Time: time.Now().UTC(), Err: err, Error: err.Error()}
	}
	return sink.Deliver(ctx, ev)
}

// sink reads all secrets.
func (h *hook) sink(ctx context.Context) (*webhook.HTTP, error) {
	s := &webhook.HTTP{Encoding: h.encoding, Source: h.source, Header: http.Header{}}
	address, _, err := h.url.Read(ctx)
	if err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	s.URL = address.Reveal()
	for name, secret := range h.headers {
		value, _, err := secret.Read(ctx)
		if err != nil {
			return nil, fmt.Errorf("header %s: %w", name, err)
		}
		s.Header[name] = []string{value.Reveal()}
	}
	for _, secret := range h.secrets {
		value, _, err := secret.Read(ctx)
		if err != nil {
			return nil, fmt.Errorf("secrets: %w", err)
		}
		s.Secrets = append(s.Secrets, value.Reveal())
	}
	return s, s.Check()
}

// newOutbox returns the outbox that delivers events. It keeps them in the store until they
// are delivered, if the store can keep records.
func (s *settings) newOutbox(in store.Store, log *slog.Logger) *webhook.Outbox {
	o := &webhook.Outbox{Receivers: s.receivers, Logger: log}
	if r, ok := in.(webhook.Records); ok {
		o.Records = r
	}
	if len(s.receivers) > 0 && s.storeKind == storeMem {
		log.Warn("the store is in memory: events that are not delivered when the proxy ends are lost")
	}
	return o
}

// events returns the outbox as the cache's sink. Without receivers it is nil, so that copy
// jobs do not record events that are due.
func (s *settings) events(o *webhook.Outbox) webhook.Sink {
	if len(s.receivers) == 0 {
		return nil
	}
	return o
}

// endOutbox ends deliveries. Those that do not end in time are cut off, and repeated after
// the next start.
func endOutbox(o *webhook.Outbox, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), deliverTimeout)
	defer cancel()
	if err := o.Shutdown(ctx); err != nil {
		log.Warn("deliveries of events were cut off; they are repeated after the next start", "error", err)
	}
}

// warnReceivers logs the receivers to which nothing can be sent now, since one of their
// secrets cannot be read.
func warnReceivers(ctx context.Context, receivers []webhook.Receiver, log *slog.Logger) {
	for _, r := range receivers {
		if h, ok := r.Sink.(*hook); ok {
			if _, err := h.sink(ctx); err != nil {
				log.Warn("a webhook cannot be used; its events wait", "receiver", r.Name, "error", err)
			}
		}
	}
}
