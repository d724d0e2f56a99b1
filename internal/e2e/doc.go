// Package e2e pulls through the proxy of examples/proxy with the clients that
// people use: crane, skopeo, regctl, oras and containerd, from a real registry. It
// holds nothing but tests:
//
//	go test ./...            in this folder; a test whose tools are missing is skipped
//	CI=true go test ./...    a missing tool is a failure
//
// Tools are looked up in the folder that E2E_BIN names, then on PATH. The
// script .ci/run installs the versions that the tests were written against.
//
// Between the proxy and the registry stands a reverse proxy, the wire, that
// writes down every request: what a pull costs upstream is a promise of the
// project, and a client that quietly falls back to the registry would make
// every other check worthless. The wire also plays registries that misbehave.
package e2e
