// Package browsertest tests the status page of the proxy in a real browser, without a
// window. It is a module of its own, so that the proxy needs no library for that.
//
//	go test ./...
//
// The tests need chromium, and are skipped where there is none. With
// PULLTHROUGH_BROWSER=needed they fail instead. PULLTHROUGH_SCREENSHOTS=DIR keeps a picture of
// each state of the page in DIR, in both themes and two widths. With crane in E2E_BIN, pulls
// are made with it.
package browsertest
