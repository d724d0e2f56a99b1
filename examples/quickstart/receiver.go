package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/webhook"
)

// receiver is the receiver of a webhook: an HTTP server that takes events.
type receiver struct {
	events chan webhook.Event
	url    string
	server *http.Server
	served chan error
}

// start serves on a free port of loopback.
func (r *receiver) start() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	r.url = "http://" + l.Addr().String() + "/hook"
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}
	r.served = make(chan error, 1)
	go func() { r.served <- r.server.Serve(l) }()
	return nil
}

// ServeHTTP takes an event over, which the status 204 confirms.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var ev webhook.Event
	if err := json.NewDecoder(req.Body).Decode(&ev); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	select {
	case r.events <- ev:
		w.WriteHeader(http.StatusNoContent)
	case <-req.Context().Done():
	}
}

// outbox returns an outbox that delivers to this receiver, and keeps events in the store
// until they are delivered.
func (r *receiver) outbox(dir *store.Dir) *webhook.Outbox {
	return &webhook.Outbox{Records: dir, Receivers: []webhook.Receiver{{Name: "demo", Sink: &webhook.HTTP{URL: r.url}}}}
}

func (r *receiver) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	http.DefaultClient.CloseIdleConnections() // those of the outbox, so that Shutdown need not wait for them
	err := r.server.Shutdown(ctx)
	if e := <-r.served; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}
