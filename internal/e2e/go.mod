module github.com/pullthrough/pullthrough/internal/e2e

go 1.26.0

require (
	github.com/opencontainers/go-digest v1.0.0
	github.com/opencontainers/image-spec v1.1.1
	github.com/pullthrough/pullthrough v0.0.0-00010101000000-000000000000
)

require (
	golang.org/x/sync v0.24.0 // indirect
	oras.land/oras-go/v2 v2.7.0 // indirect
)

replace github.com/pullthrough/pullthrough => ../..
