// Package e2e pulls from a real registry through the proxy of examples/proxy, with the
// clients that people use: crane, skopeo, regctl, oras and containerd, and with OCI's
// conformance suite. It holds only tests:
//
//	go test ./...            in this folder; a test whose tools are missing is skipped
//	CI=true go test ./...    a missing tool is a failure
//
// Tools are looked up in the folder that E2E_BIN names, then on PATH. The
// script .ci/run installs the versions that the tests were written against.
//
// Between the proxy and the registry stands a reverse proxy, the wire, which records every
// request: the project promises what a pull costs upstream, and a client that falls back
// to the registry unnoticed would make every other check worthless. The wire also takes the
// place of registries that misbehave.
//
// TestFleet and its like start several replicas of a cache, as processes which are killed,
// stopped and cut off while their clients pull, and log a table of what that costs. Each
// replica is the binary of the tests itself, with the library inside. E2E_FLEET_FULL=1 takes
// blobs of 64 MiB, for figures to compare.
package e2e
