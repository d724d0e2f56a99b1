package upstream

import "context"

type loopKey struct{}

// WithLoop returns a context whose requests carry value in the header CDN-Loop
// (RFC 8586), which names the caches that a request has passed. If value is empty, it
// returns ctx.
func WithLoop(ctx context.Context, value string) context.Context {
	if value == "" {
		return ctx
	}
	return context.WithValue(ctx, loopKey{}, value)
}

// Loop returns the value that [WithLoop] put into ctx, or nothing. A [Repository] that is
// not a [Client]'s should send it as CDN-Loop in its requests, so that caches that read
// from one another notice a loop.
func Loop(ctx context.Context) string {
	value, _ := ctx.Value(loopKey{}).(string)
	return value
}
