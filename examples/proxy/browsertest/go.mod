module github.com/pullthrough/pullthrough/examples/proxy/browsertest

go 1.26.0

replace github.com/pullthrough/pullthrough => ../../..

replace github.com/pullthrough/pullthrough/examples/proxy => ..

require (
	github.com/chromedp/cdproto v0.159.0
	github.com/chromedp/chromedp v0.23.0
	github.com/opencontainers/go-digest v1.0.0
	github.com/pullthrough/pullthrough v0.0.0-00010101000000-000000000000
	github.com/pullthrough/pullthrough/examples/proxy v0.0.0-00010101000000-000000000000
)

require (
	github.com/go-json-experiment/json v0.0.0-20260213210345-44df1a37e875 // indirect
	github.com/opencontainers/image-spec v1.1.1 // indirect
	go.etcd.io/bbolt v1.5.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	oras.land/oras-go/v2 v2.7.0 // indirect
)
