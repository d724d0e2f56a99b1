package upstream

import (
	"context"
	"net/http/httptrace"
)

// Detach returns a context with the values of ctx, such as a trace, for requests that
// another part of a program makes in the course of ctx. It has neither the deadline nor
// the end of ctx, nor what this package or [httptrace] has put into ctx for one request:
// a cache that reads from another cache in the same process must not follow the rules of
// the outer request.
func Detach(ctx context.Context) context.Context {
	return detached{context.WithoutCancel(ctx)}
}

type detached struct{ context.Context }

// Value hides what is for one request.
func (d detached) Value(key any) any {
	switch key.(type) {
	case operationKey, proxyKey, loopKey, homeKey, checkedKey, guardKey, answerTimeoutKey, rateLimitKey, hintKey:
		return nil
	}
	v := d.Context.Value(key)
	if _, ok := v.(*httptrace.ClientTrace); ok {
		return nil
	}
	return v
}
