// Package deploy holds the files that run the proxy of the folder above elsewhere than in a
// terminal: a unit of systemd, a Dockerfile, and manifests for Kubernetes. The package has
// only tests, which need no systemd that runs, no registry and no cluster:
//
//	go test ./...            in this folder; a test whose tools are missing is skipped
//	CI=true go test ./...    a missing tool is a failure
//
// What they cannot show is named in the README of the folder above, under Deploy.
package deploy
