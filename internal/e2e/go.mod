module github.com/pullthrough/pullthrough/internal/e2e

go 1.26.0

require (
	github.com/opencontainers/go-digest v1.0.0
	github.com/opencontainers/image-spec v1.1.1
)

replace github.com/pullthrough/pullthrough => ../..
