package inbound

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sync/singleflight"
)

const (
	loginMemory = 5 * time.Minute // for which a good login is remembered
	maxLogins   = 8192            // good logins that are remembered
	maxClients  = 32 << 10        // addresses whose limits are remembered
	maxWaiting  = 64              // logins that wait for a slot, in each lane
	maxPassword = 4096            // bytes
	busyRetry   = 2 * time.Second

	loginTimeout = 10 * time.Second // for a login that waits for a slot
)

var errLogin = errors.New("inbound: wrong credentials")

// loginError is errLogin of a user who is known, for the log. A name that is not known could be a password
// in the wrong place.
type loginError struct{ user string }

// Error names the user.
func (l *loginError) Error() string { return errLogin.Error() + " of user " + strconv.Quote(l.user) }

// Unwrap returns errLogin.
func (l *loginError) Unwrap() error { return errLogin }

// limitError reports something that was refused for a time.
type limitError struct {
	what string
	wait time.Duration
}

// Error says what there is too much of.
func (l *limitError) Error() string { return l.what }

// logins checks passwords. bcrypt is made to be slow, so it runs for a few logins at once,
// addresses that fail wait before they may try again, and good logins are remembered.
// It is safe for concurrent use.
type logins struct {
	key    macKey
	good   recent[mac, time.Time] // until when a login is good
	flight singleflight.Group

	// A user who has logged in from an address before waits in a lane of his own kind, and
	// his failures count for him at that address alone. So strangers who guess do not
	// hold up those who are known.
	failures rates[loginKey]
	known    recent[loginKey, struct{}]
	lanes    [2]lane // for strangers, and for those who are known
}

// loginKey is an address, or a user at an address.
type loginKey struct {
	address netip.Addr
	user    string // empty for all at that address who have not logged in there
}

// newLogins returns logins with a limit of failures.
func newLogins(key macKey, failures Rate) *logins {
	l := &logins{
		key:      key,
		good:     recent[mac, time.Time]{most: maxLogins},
		known:    recent[loginKey, struct{}]{most: maxClients},
		failures: rates[loginKey]{failures, recent[loginKey, bucket]{most: maxClients}},
	}
	for i := range l.lanes {
		l.lanes[i].slots = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/4))
	}
	return l
}

// check checks the password of a user against its hash, for a client at an address. If known is
// false, there is no such user, and the hash is one that no password has.
func (l *logins) check(ctx context.Context, address netip.Addr, user, password string, hash []byte, known bool) error {
	if len(user) > maxName || len(password) > maxPassword {
		return errLogin
	}
	login := l.key.of([]byte(user), []byte(password), hash)
	if until, ok := l.good.get(login); ok && time.Now().Before(until) {
		return nil
	}
	who, lane := loginKey{address: sharer(address)}, &l.lanes[0]
	if pair := (loginKey{who.address, user}); known {
		if _, ok := l.known.get(pair); ok {
			who, lane = pair, &l.lanes[1]
		}
	}
	// The same login from many connections is checked once, and not for the first of them alone.
	_, err, _ := l.flight.Do(who.address.String()+string(login[:]), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loginTimeout)
		defer cancel()
		return nil, l.compare(ctx, who, lane, password, hash, known)
	})
	if err == nil {
		l.good.put(login, time.Now().Add(loginMemory))
		l.known.put(loginKey{who.address, user}, struct{}{})
	}
	return err
}

// compare checks a password that is not remembered.
func (l *logins) compare(ctx context.Context, who loginKey, lane *lane, password string, hash []byte, known bool) error {
	if wait := l.failures.take(who); wait > 0 {
		return &limitError{"too many failed logins from this address", wait}
	}
	err := lane.compare(ctx, hash, password)
	if err == nil && !known {
		err = errLogin
	}
	if !errors.Is(err, errLogin) {
		l.failures.give(who) // it has not failed
	}
	return err
}

// fail counts a failure that took no password: a guess of a token. It returns an error if there were too
// many.
func (l *logins) fail(address netip.Addr) error {
	if wait := l.failures.take(loginKey{address: sharer(address)}); wait > 0 {
		return &limitError{"too many failed logins from this address", wait}
	}
	return nil
}

// lane is a queue of logins with slots for those that are being checked.
type lane struct {
	slots   chan struct{}
	waiting atomic.Int32
}

// compare waits for a slot and checks a password.
func (l *lane) compare(ctx context.Context, hash []byte, password string) error {
	defer l.waiting.Add(-1)
	if l.waiting.Add(1) > maxWaiting {
		return &limitError{"too many logins at once", busyRetry}
	}
	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
		return &limitError{"too many logins at once", busyRetry}
	}
	defer func() { <-l.slots }()
	if err := bcrypt.CompareHashAndPassword(hash, []byte(password)); err != nil {
		return errLogin
	}
	return nil
}
