// Package servertest runs the tests of package s3 against servers: gofakes3 in this process,
// and versitygw as a process of its own if PULLTHROUGH_VERSITYGW names it or it is in the
// PATH. It is a module of its own, so that who uses package s3 requires none of them.
package servertest
