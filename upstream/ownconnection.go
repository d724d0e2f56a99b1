package upstream

import "context"

type ownConnectionKey struct{}

// WithOwnConnection returns a context whose calls share no connection with other calls that
// are made at the same time: a [Client] speaks HTTP/1.1 then. It is for the parts of a blob
// that are fetched beside each other, and for a call in the place of one that does not go
// on. It says nothing to [Client.Transport], if that is set.
func WithOwnConnection(ctx context.Context) context.Context {
	return context.WithValue(ctx, ownConnectionKey{}, true)
}

// hasOwnConnection reports whether ctx comes from [WithOwnConnection].
func hasOwnConnection(ctx context.Context) bool {
	own, _ := ctx.Value(ownConnectionKey{}).(bool)
	return own
}
