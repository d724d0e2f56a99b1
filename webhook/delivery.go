package webhook

import (
	"context"
	"net/http"
	"time"
)

// Deliverer is an optional ability of a [Sink]: it gives an account of each delivery.
type Deliverer interface {
	// Deliver does what Send does and returns what was sent and answered. Err of the
	// Delivery is the error that Send would return.
	Deliver(ctx context.Context, ev Event) Delivery
}

// Delivery is one try to deliver an event.
type Delivery struct {
	// Receiver is the name of the receiver. It is empty outside of an [Outbox].
	Receiver string `json:"receiver,omitempty"`
	Event    Event  `json:"event"`
	// Attempt counts the tries of this event, from 1. It is 0 outside of an Outbox.
	Attempt  int           `json:"attempt,omitempty"`
	Time     time.Time     `json:"time"`
	Duration time.Duration `json:"duration"` // in nanoseconds
	// Request and Response are what was sent and answered, without secrets. Each is
	// nil if the delivery ended before, or if the sink is no [Deliverer].
	Request  *SentRequest `json:"eventRequestMessage,omitempty"`
	Response *Response    `json:"eventResponseMessage,omitempty"`
	// Err is why the delivery failed. If nil, the receiver took the event over.
	Err error `json:"-"`
	// Error is the text of Err, for JSON.
	Error string `json:"error,omitempty"`
	// Next is when the event is tried again, or earlier if the receiver answers
	// another delivery before. It is zero if the event is not tried again.
	Next time.Time `json:"next,omitzero"`
}

// SentRequest is a request of a [Delivery], in ACR's words.
type SentRequest struct {
	Method  string      `json:"method"`
	URI     string      `json:"requestUri"` // scheme and host only, because the rest may be secret
	Version string      `json:"version"`
	Header  http.Header `json:"headers"`
	Content string      `json:"content"` // the first 4 KiB
}

// Response is the response of a [Delivery], in ACR's words.
type Response struct {
	StatusCode   int         `json:"statusCode"`
	ReasonPhrase string      `json:"reasonPhrase"`
	Version      string      `json:"version"`
	Header       http.Header `json:"headers"` // the first 8 KiB
	Content      string      `json:"content"` // the first 4 KiB
}

// deliver sends an event and returns an account, which is short if the sink is no
// Deliverer.
func deliver(ctx context.Context, s Sink, ev Event) Delivery {
	var d Delivery
	if full, ok := s.(Deliverer); ok {
		d = full.Deliver(ctx, ev)
	} else {
		d = Delivery{Event: ev, Time: time.Now().UTC()}
		d.Err = s.Send(ctx, ev)
		d.Duration = time.Since(d.Time)
	}
	d.Event = ev // whatever the sink says: this event is written to the records
	if d.Time.IsZero() {
		d.Time = time.Now().UTC()
	}
	if d.Err != nil {
		d.Error = d.Err.Error()
	}
	return d
}
