package auth

import (
	"context"
	"fmt"
	"os"
	"strings"
)

// Secret is a source of a secret text. Implementations must be safe for concurrent use.
// [Value], [Env] and [File] are those that need no network.
type Secret interface {
	// Read returns the text and a version that changes when the text does. The
	// version is not a secret. It is empty if it is unknown.
	Read(ctx context.Context) (value Sensitive, version string, err error)
}

// SecretInvalidator is an optional ability of a [Secret] that caches its value.
type SecretInvalidator interface {
	// Invalidate is called when the upstream refused the value, so that it is read
	// again at the next Read. It must not block on I/O, and must itself bound how often
	// the value is read again.
	Invalidate()
}

// SecretObserver is an optional ability of a [Secret] that caches its value.
type SecretObserver interface {
	// Accepted is called when the upstream accepted the value. A refusal that follows
	// means that the secret was probably changed. It must not block on I/O.
	Accepted()
}

// Value is a secret that is given as a constant.
type Value struct{ Text Sensitive }

// Read returns the text.
func (v Value) Read(context.Context) (Sensitive, string, error) { return v.Text, "", nil }

// Env is a secret in the environment variable with that name, which is read at each
// use.
type Env string

// Read returns the value of the variable. If the variable is unset or empty, the error
// names it.
func (e Env) Read(context.Context) (Sensitive, string, error) {
	text := os.Getenv(string(e))
	if text == "" {
		return Sensitive{}, "", fmt.Errorf("auth: environment variable %s is not set", string(e))
	}
	return NewSensitive(text), "", nil
}

// File is a secret in the file with that name, which is read at each use, so that a
// rotation takes effect at once. One newline at the end is not part of the secret.
type File string

// Read returns the content of the file. An empty file is an error.
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
