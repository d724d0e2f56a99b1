// Package tour shows a program that embeds the cache where it can put in code of its
// own, one stop in each test file. README.md lists the stops. The package itself has
// nothing in it.
package tour
