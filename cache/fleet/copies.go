package fleet

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/pullthrough/pullthrough/cache"
)

const (
	// maxJob is the size in bytes of the largest copy job that another replica may send:
	// a manifest of 4 MiB, encoded twice.
	maxJob = 16 << 20
	// maxJobs is how many of them are read at once.
	maxJobs = 16
	// readTime is how long the body of a request may take to come.
	readTime = 15 * time.Second
)

// read reads the JSON body of a request of another replica. If that fails, it answers.
func (h *handler) read(w http.ResponseWriter, r *http.Request, most int64, value any) bool {
	// The server lifts it when it has read the body to its end, which it does of one that it skips.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(readTime))
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		w.WriteHeader(http.StatusMethodNotAllowed)
		return false
	}
	if r.ContentLength > most {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return false
	}
	f := h.f
	defer f.reading.Add(-1)
	if f.reading.Add(1) > maxJobs {
		w.WriteHeader(http.StatusServiceUnavailable)
		return false
	}
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, most)).Decode(value)
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return false
	}
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return false
	}
	return true
}

// write answers with JSON.
func write(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}

// copies takes over a copy job of another replica.
func (h *handler) copies(w http.ResponseWriter, r *http.Request) {
	if h.f.leaving.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	var job cache.Job
	if !h.read(w, r, maxJob, &job) {
		return
	}
	id, err := h.c.Accept(r.Context(), job)
	switch {
	case err == nil:
		h.f.counts.taken.Add(1)
		write(w, http.StatusAccepted, cache.JobStatus{State: cache.JobComing, ID: id})
	case errors.Is(err, cache.ErrDeleted):
		w.WriteHeader(http.StatusGone)
	case errors.Is(err, cache.ErrTooManyCopies):
		w.WriteHeader(http.StatusServiceUnavailable)
	default:
		h.f.log.Warn("fleet: a copy job of another replica is not taken", "self", h.f.Self, "peer", short(r.Header.Get(headerPeer)), "err", err)
		w.WriteHeader(http.StatusConflict)
	}
}

// copyState tells another replica what became of a copy job.
func (h *handler) copyState(w http.ResponseWriter, r *http.Request) {
	var job cache.Job
	if !h.read(w, r, maxJob, &job) {
		return
	}
	at, err := h.c.JobState(r.Context(), job)
	if err != nil {
		w.WriteHeader(http.StatusConflict)
		return
	}
	write(w, http.StatusOK, at)
}
