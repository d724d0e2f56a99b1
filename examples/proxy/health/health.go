// Package health says whether a proxy can do its work, for probes of orchestrators and load
// balancers.
//
// /healthz says only that the process answers. [Ready] is for /readyz: the store takes what is
// written to it, and the records of the former process are read. Upstreams are shown and are not
// required, since what is stored is served without them.
package health

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/proxy/watch"
	"github.com/pullthrough/pullthrough/store"
)

const (
	// recordKind and recordKey name the record that is written to see whether that works.
	recordKind = "readiness"
	recordKey  = "probe"

	// againAfter is how long the result of a look at the store is used, so that probes cost
	// little, however many there are.
	againAfter = 2 * time.Second

	readTimeout = time.Second // for the records of a former process
	maxHosts    = 200         // that are shown
)

// Ready answers /readyz: 200 if the proxy can do its work, else 503, and why in JSON. Its fields
// must not change after first use. It is safe for concurrent use and must not be copied.
type Ready struct {
	// Cache is the cache. It is required.
	Cache *cache.Cache
	// Store is the store of Cache. It is required.
	Store store.Store
	// Hosts returns the states of upstream hosts. If nil, none are shown.
	Hosts func() []watch.HostState
	// Ending is closed when the program begins to end, so that no more clients are sent
	// here. If nil, it does not end.
	Ending <-chan struct{}
	// Patience is how long the store may take. If zero, [watch.DefaultPatience].
	Patience time.Duration

	once   sync.Once
	probe  watch.Patient[time.Time]
	mu     sync.Mutex
	looked time.Time // when the last look at the store ended
	fault  error     // what it came to
}

// Report is the JSON of an answer.
type Report struct {
	Ready     bool       `json:"ready"`
	Checks    []Check    `json:"checks"`
	Upstreams []Upstream `json:"upstreams"` // at most 200, those in trouble first
}

// Check is one thing that is required.
type Check struct {
	Name   string `json:"name"` // running, records or store
	OK     bool   `json:"ok"`
	Reason string `json:"reason,omitempty"` // empty if OK
}

// Upstream is an upstream host, which is not required.
type Upstream struct {
	Host   string           `json:"host"`
	Status watch.HostStatus `json:"status"`
}

// ServeHTTP answers a request.
func (h *Ready) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	report := h.Report(r.Context())
	status := http.StatusOK
	if !report.Ready {
		status = http.StatusServiceUnavailable
	}
	data, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		http.Error(w, "the report has no JSON form", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n')) // a client that has left needs no answer
}

// Report says whether the proxy can do its work.
func (h *Ready) Report(ctx context.Context) Report {
	r := Report{Ready: true, Upstreams: h.upstreams()}
	for _, c := range []Check{check("running", h.running()), check("records", h.records(ctx)), check("store", h.store(ctx))} {
		r.Ready = r.Ready && c.OK
		r.Checks = append(r.Checks, c)
	}
	return r
}

func check(name string, fault error) Check {
	if fault != nil {
		return Check{Name: name, Reason: short(fault.Error())}
	}
	return Check{Name: name, OK: true}
}

// short cuts a reason.
func short(text string) string {
	const most = 300
	if len(text) > most {
		return text[:most] + "…"
	}
	return text
}

var (
	errEnding  = errors.New("the proxy is ending: running responses finish, and new clients should go elsewhere")
	errReading = errors.New("the records of the former process are still being read")
)

// running says whether the program is ending.
func (h *Ready) running() error {
	select {
	case <-h.Ending: // which blocks if there is none
		return errEnding
	default:
		return nil
	}
}

// records says whether the records of the former process are read.
func (h *Ready) records(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readTimeout, errReading)
	defer cancel()
	return h.Cache.Start(ctx)
}

// store says whether the store takes what is written. A look that ended a moment ago is good
// enough, but for one that hangs.
func (h *Ready) store(ctx context.Context) error {
	h.once.Do(func() {
		h.probe.Patience = h.Patience
		h.probe.Call = h.write
	})
	h.mu.Lock()
	fault, fresh := h.fault, !h.looked.IsZero() && time.Since(h.looked) < againAfter
	h.mu.Unlock()
	if fresh {
		return fault
	}
	_, err := h.probe.Do(ctx)
	if hangs, ok := errors.AsType[*watch.HangsError](err); ok {
		return errors.New("the store does not answer: " + hangs.Error())
	}
	return err
}

// write writes a record, reads it, and removes it.
func (h *Ready) write(ctx context.Context) (time.Time, error) {
	err := h.try(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.looked, h.fault = time.Now(), err
	return h.looked, err
}

func (h *Ready) try(ctx context.Context) error {
	records, ok := store.As[store.Records](h.Store)
	if !ok {
		return nil // it keeps none, and says so at the start
	}
	now := []byte(time.Now().UTC().Format(time.RFC3339Nano))
	if err := records.PutRecord(ctx, recordKind, recordKey, now); err != nil {
		return errors.New("the store takes nothing: " + err.Error())
	}
	switch read, err := records.Record(ctx, recordKind, recordKey); {
	case err != nil:
		return errors.New("the store cannot be read: " + err.Error())
	case string(read) != string(now):
		return errors.New("the store returns something else than what was written")
	}
	if err := records.DeleteRecord(ctx, recordKind, recordKey); err != nil {
		return errors.New("the store removes nothing: " + err.Error())
	}
	return nil
}

// upstreams shows the hosts, those in trouble first.
func (h *Ready) upstreams() []Upstream {
	list := []Upstream{}
	if h.Hosts == nil {
		return list
	}
	hosts := h.Hosts()
	for _, trouble := range []bool{true, false} {
		for _, one := range hosts {
			ill := one.Status != watch.HostOK && one.Status != watch.HostUnknown
			if ill == trouble && len(list) < maxHosts {
				list = append(list, Upstream{one.Host, one.Status})
			}
		}
	}
	return list
}
