package azuretest

import "net/http"

// Fault is what goes wrong at an endpoint. The first one of an endpoint happens.
type Fault struct {
	// Times is how often it happens. If zero, it happens until Heal.
	Times int
	// Status answers with that status and an error as Azure writes it.
	Status int
	// RetryAfter is the header of that name, with Status.
	RetryAfter string
	// Hang answers nothing until [Azure.Release] or the client leaves; what the
	// other fields say comes after it.
	Hang bool
	// Do answers instead of everything else.
	Do http.HandlerFunc
}

// fault is a Fault with the endpoint that it is of.
type fault struct {
	Fault
	endpoint Endpoint
}

// Fail makes an endpoint go wrong from now on. The fault that came first happens
// first. Faults of the content of a registry are at Registry.Content.
func (a *Azure) Fail(e Endpoint, f Fault) { a.faults.Fail(fault{f, e}, f.Times) }

// Heal removes all faults. What hangs goes on hanging.
func (a *Azure) Heal() { a.faults.Heal() }

// Release lets the requests go on that hang now.
func (a *Azure) Release() { a.net.secure.Release() }
