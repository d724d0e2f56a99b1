module github.com/pullthrough/pullthrough/internal/bench

go 1.26.0

require github.com/pullthrough/pullthrough v0.0.0-00010101000000-000000000000

require (
	github.com/opencontainers/go-digest v1.0.0 // indirect
	github.com/opencontainers/image-spec v1.1.1 // indirect
	go.etcd.io/bbolt v1.5.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	oras.land/oras-go/v2 v2.7.0 // indirect
)

replace github.com/pullthrough/pullthrough => ../..
