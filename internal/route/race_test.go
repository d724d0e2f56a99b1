//go:build race

package route

// raceEnabled: under the race detector sync.Pool, and so regexp, allocates more.
const raceEnabled = true
