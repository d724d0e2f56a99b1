package upstream

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

// Op names a method of a [Repository], or of one of its abilities, in a [Call].
type Op string

// The methods that ask an upstream. ManifestUnless counts as a manifest.
const (
	OpResolve   Op = "resolve"
	OpManifest  Op = "manifest"
	OpBlob      Op = "blob"
	OpStatBlob  Op = "stat-blob"
	OpTags      Op = "tags"
	OpReferrers Op = "referrers"
)

// Call is one call of a method of a [Repository], as [Client.Observe] is told of it. It
// holds no secret.
type Call struct {
	Source Source
	Op     Op
	// Reference is the tag or the digest that was asked for. It is empty for tags.
	Reference string
	// Status is the HTTP status of the last response, which may be that of a token
	// server. It is 0 if there was none.
	Status int
	// Err is the error that the method returned, or that a Read of the [Body] did. It
	// is nil if there was none, as for a Body that is closed before its end. [ClassOf]
	// and [Error] tell more. [ErrUnchanged] and [ErrIncomplete] are not failures of the
	// upstream.
	Err error
	// Bytes is how much was read of the bodies of responses that were not refused.
	Bytes int64
	// Duration is the time from when the method was called until it returned, or until
	// the Body was closed.
	Duration time.Duration
	// Retries is how often the same was asked again: after the upstream refused a token
	// or a credential that it was shown, with a smaller page of tags, or by the fallback
	// tag for referrers. The first request for a token and redirects do not count.
	Retries int
	// RateLimit is what the last response of the rule's host that said something of its
	// limits said of them. It must not be changed. If nil, none did.
	RateLimit *RateLimit
}

// operation is a [Call] that goes on. A nil one is for nobody. It is safe for concurrent
// use, since a Body may be closed while it is read.
type operation struct {
	observe func(Call)
	start   time.Time

	mu    sync.Mutex
	call  Call
	asked bool // the upstream was asked, or would have been with a credential
	ended bool
}

type operationKey struct{}

// begin begins an operation, of which the calls that are made with the returned context
// are part.
func (r *repository) begin(ctx context.Context, op Op, reference string) (context.Context, *operation) {
	if r.observe == nil {
		return ctx, nil
	}
	o := &operation{observe: r.observe, start: time.Now(), call: Call{Source: r.source, Op: op, Reference: reference}}
	return context.WithValue(ctx, operationKey{}, o), o
}

// operationOf returns the operation that ctx is part of, or nil.
func operationOf(ctx context.Context) *operation {
	o, _ := ctx.Value(operationKey{}).(*operation)
	return o
}

// update changes o unless it has ended.
func (o *operation) update(change func()) {
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.ended {
		change()
	}
}

// asking notes that a call is made. Each but the first is a retry.
func (o *operation) asking() {
	o.update(func() {
		if o.asked {
			o.call.Retries++
		}
		o.asked = true
	})
}

// retried notes that a request is sent again.
func (o *operation) retried() { o.update(func() { o.call.Retries++ }) }

// answered notes the status of a response.
func (o *operation) answered(status int) { o.update(func() { o.call.Status = status }) }

// limited notes what a response says of the limits of its host.
func (o *operation) limited(l *RateLimit) { o.update(func() { o.call.RateLimit = l }) }

// failed notes an error of the content.
func (o *operation) failed(err error) { o.update(func() { o.call.Err = err }) }

// counted returns body, whose bytes count for o.
func (o *operation) counted(body io.ReadCloser) io.ReadCloser {
	if o == nil {
		return body
	}
	return &countedBody{body, o}
}

type countedBody struct {
	io.ReadCloser
	operation *operation
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.operation.update(func() { b.operation.call.Bytes += int64(n) })
	return n, err
}

// end ends o with the error of its method, if that is not nil, and tells the observer,
// once. It does not if nothing was asked, since the arguments were impossible.
func (o *operation) end(err *error) {
	tell := false
	o.update(func() {
		o.ended, tell = true, o.asked
		o.call.Duration = time.Since(o.start)
		if *err == nil {
			return
		}
		o.call.Err = *err
		if e, ok := errors.AsType[*Error](*err); ok && e.Status != 0 {
			o.call.Status = e.Status
		}
	})
	if tell {
		o.observe(o.call) // which does not change any more
	}
}
