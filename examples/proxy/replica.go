package main

import (
	"log/slog"
	"net"
	"net/http"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/fleet"
	"github.com/pullthrough/pullthrough/upstream"
)

// replica is this proxy among the others of its fleet. The zero replica has no others.
type replica struct {
	*fleet.Fleet
	settings *fleetSettings
	log      *slog.Logger
}

// newReplica returns what the fleet section says.
func (s *settings) newReplica(log *slog.Logger) (replica, error) {
	v := s.fleet
	if v == nil {
		return replica{}, nil
	}
	f := &fleet.Fleet{Self: v.self, Peers: fleet.Static(v.peers...), Secret: []byte(v.secret), Insecure: v.insecure, Least: v.least, Logger: log}
	if v.dns != "" {
		_, port, _ := net.SplitHostPort(v.self) // was checked
		f.Peers = (&fleet.DNS{Host: v.dns, Port: port, Logger: log}).Peers
	}
	if v.tls != nil {
		var err error
		if f.TLS, err = v.tls.client(); err != nil {
			return replica{}, err
		}
		f.Transport = v.tls.transport()
		if v.tls.ca != nil {
			f.Trust = v.tls.trusts
		}
	}
	return replica{f, v, log}, f.Check()
}

// opener returns an opener that asks the other replicas before next, if there are any.
func (r replica) opener(next upstream.Opener) upstream.Opener {
	if r.Fleet == nil {
		return next
	}
	return r.Opener(next)
}

// join makes a cache, which has not started, one of those that share a store: one of them copies
// an image and sends its events, and a deletion reaches the memory of all.
func (r replica) join(c *cache.Cache) {
	if r.Fleet == nil {
		return
	}
	c.Deleted = r.Deleted
	if r.settings.owner {
		c.Copier = r.Copier(c)
	}
}

// server returns the server that answers the other replicas, or nil without a fleet.
func (r replica) server(c *cache.Cache) *http.Server {
	if r.Fleet == nil {
		return nil
	}
	s := r.Server(c)
	s.ErrorLog = slog.NewLogLogger(r.log.Handler(), slog.LevelWarn)
	if r.settings.tls != nil {
		s.TLSConfig = r.settings.tls.server()
	}
	return s
}

// leave makes the other replicas turn away from this one; what they are being sent goes on.
func (r replica) leave() {
	if r.Fleet != nil {
		r.Leave()
	}
}

// close ends what this replica does by itself: others that did not hear of a deletion are told a last time.
func (r replica) close() {
	if r.Fleet != nil {
		r.Close()
	}
}
