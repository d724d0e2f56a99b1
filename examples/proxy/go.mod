module github.com/pullthrough/pullthrough/examples/proxy

go 1.26.0

require (
	github.com/pullthrough/pullthrough v0.0.0-00010101000000-000000000000
	go.yaml.in/yaml/v3 v3.0.6
)

require (
	github.com/opencontainers/go-digest v1.0.0 // indirect
	github.com/opencontainers/image-spec v1.1.1 // indirect
	golang.org/x/sync v0.24.0 // indirect
	oras.land/oras-go/v2 v2.7.0 // indirect
)

replace github.com/pullthrough/pullthrough => ../..
