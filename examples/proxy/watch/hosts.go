package watch

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pullthrough/pullthrough/upstream"
)

// HostStatus says how an upstream host is, by its last answer.
type HostStatus string

// The states of a host.
const (
	HostUnknown     HostStatus = "unknown"     // no call has shown how it is
	HostOK          HostStatus = "ok"          // it answers
	HostLimited     HostStatus = "limited"     // it answers that it is asked too often
	HostFailing     HostStatus = "failing"     // it answers with 5xx, or with what cannot be used
	HostUnreachable HostStatus = "unreachable" // it does not answer
)

// HostStatuses returns all states of a host.
func HostStatuses() []HostStatus {
	return []HostStatus{HostUnknown, HostOK, HostLimited, HostFailing, HostUnreachable}
}

// HostState is what is known of an upstream host.
type HostState struct {
	Host   string     `json:"host"` // or [Other]
	Status HostStatus `json:"status"`
	// Since is when the status became what it is. It is zero if that is HostUnknown.
	Since time.Time `json:"since,omitzero"`
	// Until is when a host that is limited may be asked again, if it said so.
	Until       time.Time `json:"until,omitzero"`
	LastSuccess time.Time `json:"lastSuccess,omitzero"`
	// LastError is the last failure, whosever it was; nil if there was none. That the
	// host does not have something is no failure.
	LastError *HostError `json:"lastError,omitempty"`
	// Budgets are what the host said last of the requests that it allows, for each account
	// that is used there; at most 16.
	Budgets []Budget    `json:"budgets,omitempty"`
	Calls   []CallCount `json:"calls"` // by operation and status
	Bytes   int64       `json:"bytes"` // that it sent
	Retries int64       `json:"retries"`
}

// Reachable reports whether the host answered when it was asked last.
func (h HostState) Reachable() bool { return h.Status != HostUnreachable && h.Status != HostUnknown }

// Budget is how many requests a host allows one account, as it said at a time.
type Budget struct {
	Time      time.Time     `json:"time"`
	Source    string        `json:"source,omitempty"` // whose requests the host counts, in its own word
	Limit     int           `json:"limit"`            // zero if the host did not say
	Remaining int           `json:"remaining"`
	Window    time.Duration `json:"window"` // in nanoseconds; zero if the host did not say
	account   string
}

// maxBudgets is how many budgets are kept of a host.
const maxBudgets = 16

// Budget returns the budget of the host that has least left. It is false if the host said
// nothing, or so long ago that it counts for nothing by now.
func (h HostState) Budget() (least Budget, ok bool) {
	for _, b := range h.Budgets {
		if b.Window > 0 && time.Since(b.Time) > b.Window {
			continue
		}
		if !ok || b.Remaining < least.Remaining {
			least, ok = b, true
		}
	}
	return least, ok
}

// budget notes what a host said of an account. The one that was heard of least recently makes room.
func (h *host) budget(l *upstream.RateLimit, now time.Time) {
	if l == nil {
		return
	}
	h.Budgets = slices.DeleteFunc(h.Budgets, func(b Budget) bool { return b.account == l.Account })
	if len(h.Budgets) >= maxBudgets {
		h.Budgets = slices.Delete(h.Budgets, 0, 1)
	}
	h.Budgets = append(h.Budgets, Budget{Time: now, Source: cut(l.Source, maxName), Limit: l.Limit, Remaining: l.Remaining, Window: l.Window, account: l.Account})
}

// HostError is a call of a host that failed.
type HostError struct {
	Time       time.Time      `json:"time"`
	Class      upstream.Class `json:"class,omitempty"` // empty if it has none
	Status     int            `json:"status,omitempty"`
	Op         upstream.Op    `json:"op"`
	Rule       string         `json:"rule"`
	Repository string         `json:"repository"` // at the upstream
	Text       string         `json:"text"`
}

// CallCount is how often an operation had a status.
type CallCount struct {
	Op upstream.Op `json:"op"`
	// Status is a usual HTTP status such as "200", or the class of another one such as
	// "4xx", or "none" if there was no response.
	Status string `json:"status"`
	Count  int64  `json:"count"`
}

// Call records a call of an upstream. It is for [upstream.Client.Observe].
func (r *Recorder) Call(c upstream.Call) {
	r.init()
	now, text := time.Now(), ""
	if c.Err != nil {
		text = cut(c.Err.Error(), maxText)
	}
	r.hosts.mu.Lock()
	defer r.hosts.mu.Unlock()
	h := r.hosts.of(c.Source.Host)
	h.calls[callKey{opOf(c.Op), statusOf(c.Status)}]++
	h.Bytes += c.Bytes
	h.Retries += int64(c.Retries)
	h.budget(c.RateLimit, now)
	h.judge(c, now, text)
}

// Hosts returns the state of each upstream host that was asked, sorted by name.
func (r *Recorder) Hosts() []HostState {
	r.init()
	r.hosts.mu.Lock()
	defer r.hosts.mu.Unlock()
	states := make([]HostState, 0, len(r.hosts.table))
	for _, h := range r.hosts.table {
		states = append(states, h.state())
	}
	slices.SortFunc(states, func(a, b HostState) int { return strings.Compare(a.Host, b.Host) })
	return states
}

// hostTable finds the state of a host.
type hostTable struct {
	most  int
	mu    sync.Mutex
	table map[string]*host
}

// host is the state of one host. Its Calls are in calls.
type host struct {
	HostState
	calls map[callKey]int64
}

// callKey has few values, whatever upstreams answer.
type callKey struct {
	op     upstream.Op
	status string
}

// of returns the state of a host. t.mu is held.
func (t *hostTable) of(name string) *host {
	if h := t.table[name]; h != nil {
		return h
	}
	if len(t.table) >= t.most {
		name = Other
		if h := t.table[name]; h != nil {
			return h
		}
	}
	if t.table == nil {
		t.table = map[string]*host{}
	}
	h := &host{HostState: HostState{Host: cut(strings.Clone(name), maxName), Status: HostUnknown}, calls: map[callKey]int64{}}
	t.table[name] = h
	return h
}

func (h *host) state() HostState {
	s := h.HostState
	s.Budgets = slices.Clone(h.Budgets)
	for k, n := range h.calls {
		s.Calls = append(s.Calls, CallCount{k.op, k.status, n})
	}
	slices.SortFunc(s.Calls, func(a, b CallCount) int { return cmp.Or(cmp.Compare(a.Op, b.Op), cmp.Compare(a.Status, b.Status)) })
	return s
}

// judge draws from a call how the host is. text is that of its error.
func (h *host) judge(c upstream.Call, now time.Time, text string) {
	u, failed := errors.AsType[*upstream.Error](c.Err)
	switch {
	case c.Err == nil, errors.Is(c.Err, upstream.ErrUnchanged), errors.Is(c.Err, upstream.ErrIncomplete):
		h.LastSuccess = now
		h.become(HostOK, now)
		return
	case errors.Is(c.Err, context.Canceled):
		return
	case failed && u.Class == upstream.NotFound:
		h.become(HostOK, now)
		return
	}
	e := &HostError{Time: now, Status: c.Status, Op: opOf(c.Op), Rule: c.Source.Rule, Repository: cut(c.Source.Repository, maxName), Text: text}
	h.LastError = e
	if !failed {
		return
	}
	e.Class = u.Class
	if u.Owner != upstream.Home {
		return // it is no failure of this host
	}
	switch {
	case u.Class == upstream.Limited:
		h.become(HostLimited, now)
		if u.RetryAfter > 0 {
			h.Until = now.Add(u.RetryAfter)
		}
	case u.Class == upstream.Unreachable && u.Status == 0:
		h.become(HostUnreachable, now)
	case u.Class == upstream.Unreachable, u.Class == upstream.Protocol:
		h.become(HostFailing, now)
	case u.Class == upstream.Denied:
		h.become(HostOK, now)
	}
}

// become changes the status.
func (h *host) become(s HostStatus, now time.Time) {
	h.Until = time.Time{}
	if h.Status != s {
		h.Status, h.Since = s, now
	}
}

// opOf is an operation that is known, or "other".
func opOf(op upstream.Op) upstream.Op {
	switch op {
	case upstream.OpResolve, upstream.OpManifest, upstream.OpBlob, upstream.OpStatBlob, upstream.OpTags, upstream.OpReferrers:
		return op
	}
	return "other"
}

// statusOf is the text of a status that is usual, or its class.
func statusOf(status int) string {
	switch status {
	case 0:
		return "none"
	case http.StatusOK, http.StatusPartialContent, http.StatusNotModified, http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound,
		http.StatusMethodNotAllowed, http.StatusRequestedRangeNotSatisfiable, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusLoopDetected:
		return strconv.Itoa(status)
	}
	if status < 100 || status > 599 {
		return "other"
	}
	return strconv.Itoa(status/100) + "xx"
}
