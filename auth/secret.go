package auth

import (
	"context"
	"fmt"
	"os"
	"strings"
)

// Secret is where a secret text comes from. Implementations must be safe for
// concurrent use. [Value], [Env] and [File] are the ones without a network.
type Secret interface {
	// Read returns the text and a version that changes when the text does. The
	// version is not a secret; empty: unknown.
	Read(ctx context.Context) (value Sensitive, version string, err error)
}

// SecretInvalidator is an optional ability of a [Secret] that keeps what it
// read: the upstream refused it, so it should be read again. It must not block
// on I/O and must itself bound how often that has an effect.
type SecretInvalidator interface {
	Invalidate()
}

// SecretObserver is an optional ability of a [Secret] that keeps what it read: the
// upstream accepted it, so a refusal that follows tells that it was changed. It
// must not block on I/O.
type SecretObserver interface {
	Accepted()
}

// Value is a secret that is given as it is.
type Value struct{ Text Sensitive }

// Read returns the text.
func (v Value) Read(context.Context) (Sensitive, string, error) { return v.Text, "", nil }

// Env is a secret in the environment variable of that name, read at each use.
type Env string

// Read returns the variable's text; a variable that is unset or empty is an
// error that names it.
func (e Env) Read(context.Context) (Sensitive, string, error) {
	text := os.Getenv(string(e))
	if text == "" {
		return Sensitive{}, "", fmt.Errorf("auth: environment variable %s is not set", string(e))
	}
	return NewSensitive(text), "", nil
}

// File is a secret in the file of that name, read at each use, so that a
// rotated file is seen at once. One newline at the end does not count.
type File string

// Read returns the file's text; an empty file is an error.
func (f File) Read(context.Context) (Sensitive, string, error) {
	data, err := os.ReadFile(string(f))
	if err != nil {
		return Sensitive{}, "", fmt.Errorf("auth: secret file: %w", err)
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if text == "" {
		return Sensitive{}, "", fmt.Errorf("auth: secret file %s is empty", string(f))
	}
	return NewSensitive(text), "", nil
}
