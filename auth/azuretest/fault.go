package azuretest

import "net/http"

// Fault is a failure of an endpoint. Of several faults of an endpoint, the first one that
// was added applies.
type Fault struct {
	// Times is how often the fault applies. If zero, it applies until Heal.
	Times int
	// Status is the status of the response, which has an error in Azure's form.
	Status int
	// RetryAfter is the Retry-After header of the response with Status.
	RetryAfter string
	// Hang sends no response until [Azure.Release] is called or the client gives up.
	// The other fields apply after that.
	Hang bool
	// Do, if not nil, serves the request; Status does not apply then.
	Do http.HandlerFunc
}

// fault is a Fault of an endpoint.
type fault struct {
	Fault
	endpoint Endpoint
}

// Fail adds a fault of an endpoint. For faults of the content of a registry, use the Fail
// of Registry.Content.
func (a *Azure) Fail(e Endpoint, f Fault) { a.faults.Fail(fault{f, e}, f.Times) }

// Heal removes all faults. Requests that hang go on hanging.
func (a *Azure) Heal() { a.faults.Heal() }

// Release lets the requests that hang now go on.
func (a *Azure) Release() { a.net.secure.Release() }
