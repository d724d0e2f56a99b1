package webhook

import (
	"context"
	"net/http"
	"time"
)

// Deliverer is an optional ability of a [Sink]: it tells what was sent and
// answered.
type Deliverer interface {
	// Deliver is Send with an account of it; Delivery.Err is Send's error.
	Deliver(ctx context.Context, ev Event) Delivery
}

// Delivery is one try to deliver an event.
type Delivery struct {
	// Receiver is the name of the receiver; empty outside of an [Outbox].
	Receiver string `json:"receiver,omitempty"`
	Event    Event  `json:"event"`
	// Attempt counts the tries of this event from 1; 0 outside of an Outbox.
	Attempt  int           `json:"attempt,omitempty"`
	Time     time.Time     `json:"time"`
	Duration time.Duration `json:"duration"` // in nanoseconds
	// Request and Response are what went over the wire, without secrets; nil: it
	// did not come to that, or the sink does not tell.
	Request  *SentRequest `json:"eventRequestMessage,omitempty"`
	Response *Response    `json:"eventResponseMessage,omitempty"`
	// Err is why it failed; nil: it did not.
	Err error `json:"-"`
	// Error is the text of Err, for JSON.
	Error string `json:"error,omitempty"`
	// Next is when it is tried again, unless the receiver answers earlier; zero:
	// it is not.
	Next time.Time `json:"next,omitzero"`
}

// SentRequest is a request of a [Delivery], in ACR's words.
type SentRequest struct {
	Method  string      `json:"method"`
	URI     string      `json:"requestUri"` // scheme and host: the rest may be secret
	Version string      `json:"version"`
	Header  http.Header `json:"headers"`
	Content string      `json:"content"` // the first 4 KiB
}

// Response is an answer of a [Delivery], in ACR's words.
type Response struct {
	StatusCode   int         `json:"statusCode"`
	ReasonPhrase string      `json:"reasonPhrase"`
	Version      string      `json:"version"`
	Header       http.Header `json:"headers"` // 8 KiB at most
	Content      string      `json:"content"` // the first 4 KiB
}

// deliver sends an event and gives the account of it that the sink can give.
func deliver(ctx context.Context, s Sink, ev Event) Delivery {
	var d Delivery
	if full, ok := s.(Deliverer); ok {
		d = full.Deliver(ctx, ev)
	} else {
		d = Delivery{Event: ev, Time: time.Now().UTC()}
		d.Err = s.Send(ctx, ev)
		d.Duration = time.Since(d.Time)
	}
	d.Event = ev // what is kept on disk must not depend on a foreign sink
	if d.Time.IsZero() {
		d.Time = time.Now().UTC()
	}
	if d.Err != nil {
		d.Error = d.Err.Error()
	}
	return d
}
