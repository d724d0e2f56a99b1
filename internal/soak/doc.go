// Package soak holds only a test: two tenants share one cache for a while, one of them
// honest and the other as hostile as a stranger can be, and nothing that the hostile one
// does may affect the honest one.
//
// Two environment variables configure it:
//
//	PULLTHROUGH_SOAK       how long it pulls, as a Go duration. If it is not set, it
//	                       pulls for 5s and does not judge times, since other tests
//	                       may run at the same time.
//	PULLTHROUGH_SOAK_SEED  the seed of the actors' choices. If it is not set, a random
//	                       one is used and logged.
//
// With one seed the actors do the same things in each run. Two runs are not equal, since
// the actors run concurrently.
package soak
