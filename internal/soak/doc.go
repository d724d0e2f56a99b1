// Package soak holds a test alone: two tenants share one cache for a while, one of
// them honest and the other as hostile as a stranger can be, and nothing that the
// hostile one does may reach the honest one.
//
// Two variables of the environment set it up:
//
//	PULLTHROUGH_SOAK       how long it pulls, as a Go duration; if it is not set, 5s,
//	                       and times are not judged, since other tests may run beside
//	PULLTHROUGH_SOAK_SEED  what the actors choose by; a random one, which is logged,
//	                       if it is not set
//
// A seed makes the actors do the same things. It does not make two runs equal, since
// the actors run at once.
package soak
