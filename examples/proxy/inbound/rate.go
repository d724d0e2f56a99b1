package inbound

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Rate is how often something may happen: Count times at once, and as often again in
// each period of Per, evenly. The zero value is no limit.
type Rate struct {
	Count int
	Per   time.Duration
}

// ParseRate reads "100/s", "600/m" or "5000/h".
func ParseRate(text string) (Rate, error) {
	number, unit, _ := strings.Cut(text, "/")
	count, err := strconv.Atoi(number)
	per := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}[unit]
	if err != nil || count <= 0 || count > math.MaxInt32 || per == 0 {
		return Rate{}, fmt.Errorf("%q is not a rate such as 100/s, 600/m or 5000/h", text)
	}
	return Rate{count, per}, nil
}

// limited reports whether there is a limit.
func (r Rate) limited() bool { return r.Count > 0 && r.Per > 0 }

// interval is the time in which one more is allowed.
func (r Rate) interval() time.Duration { return r.Per / time.Duration(r.Count) }

// bucket is what one client has used of a rate: the time at which it will have nothing left
// to pay. The zero value has used nothing.
type bucket struct{ paid time.Time }

// take uses one. If there is none left, it returns how long to wait, and nothing is used.
func (b bucket) take(r Rate, now time.Time) (bucket, time.Duration) {
	paid := b.paid
	if paid.Before(now) {
		paid = now
	}
	paid = paid.Add(r.interval())
	if wait := paid.Sub(now.Add(r.Per)); wait > 0 {
		return b, wait
	}
	return bucket{paid}, 0
}

// give returns one that was taken and not used.
func (b bucket) give(r Rate) bucket { return bucket{b.paid.Add(-r.interval())} }

// rates holds what each client has used of a rate. It is safe for concurrent use.
type rates[K comparable] struct {
	rate Rate
	used recent[K, bucket]
}

// take uses one of what a client has, and returns zero, or else how long to wait.
func (r *rates[K]) take(key K) (wait time.Duration) {
	if !r.rate.limited() {
		return 0
	}
	now := time.Now()
	r.used.change(key, func(b bucket) bucket {
		b, wait = b.take(r.rate, now)
		return b
	})
	return wait
}

// give returns one that a client has taken and not used.
func (r *rates[K]) give(key K) {
	if r.rate.limited() {
		r.used.change(key, func(b bucket) bucket { return b.give(r.rate) })
	}
}

// sharer is the address as limits count it: of IPv6, a client has a whole /64.
func sharer(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if !a.Is6() {
		return a
	}
	p, err := a.Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}
