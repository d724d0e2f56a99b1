package upstream

import "context"

type hintKey struct{}

// Hint is what package cache knows about a download whose bytes it asks a [Repository] for
// by Blob or StatBlob, beside what the arguments say. It is for an [Opener] that gets blobs
// in another way, such as one that asks other replicas.
type Hint struct {
	// Repository is the canonical local name. If empty, it is unknown.
	Repository string
	// Size is the size in bytes of the blob that the question is about, as a verified
	// manifest gives it. If negative, it is unknown.
	Size int64
}

// WithHint returns a context that carries h.
func WithHint(ctx context.Context, h Hint) context.Context {
	return context.WithValue(ctx, hintKey{}, h)
}

// HintOf returns what [WithHint] put into ctx. Without that, Repository is empty and Size
// is -1.
func HintOf(ctx context.Context) Hint {
	if h, ok := ctx.Value(hintKey{}).(Hint); ok {
		return h
	}
	return Hint{Size: -1}
}
