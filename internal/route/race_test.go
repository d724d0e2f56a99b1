//go:build race

package route

// raceEnabled: sync.Pool, and so regexp, allocates more under the race detector.
const raceEnabled = true
