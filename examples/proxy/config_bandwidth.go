package main

import (
	"net/http"
	"net/netip"

	"go.yaml.in/yaml/v3"

	"github.com/pullthrough/pullthrough/examples/proxy/bandwidth"
	"github.com/pullthrough/pullthrough/examples/proxy/inbound"
)

// bandwidthConfig holds the limits in bytes per second. 0 and less mean no limit.
type bandwidthConfig struct {
	upstream, clients int64
}

// read returns the read of the bandwidth section.
func (b *bandwidthConfig) read(r reader) read {
	return func(n *yaml.Node, pos position) {
		r.fields(n, pos, map[string]read{
			"upstream": r.bandwidth(&b.upstream),
			"clients":  r.bandwidth(&b.clients),
		})
	}
}

// bandwidth reads a number of bytes per second, with which pulls must work.
func (r reader) bandwidth(to *int64) read {
	return func(n *yaml.Node, pos position) {
		if r.bytes(to)(n, pos); *to > 0 && *to < bandwidth.Least {
			r.add(pos, "is less than %dKiB per second: connections would wait for so long that clients give up", bandwidth.Least>>10)
		}
	}
}

// rates are the limits in force.
type rates struct {
	upstream, clients bandwidth.Limit
	hosts             bandwidth.Hosts
}

// set puts the limits of a file in force, also for what is under way.
func (r *rates) set(c *config) {
	r.upstream.Set(c.bandwidth.upstream)
	r.clients.Set(c.bandwidth.clients)
	hosts := map[string]int64{}
	for _, u := range c.upstreams {
		if u.bandwidth > 0 {
			hosts[host(u.host.text)] = u.bandwidth
		}
	}
	r.hosts.Set(hosts)
}

// handler returns a handler whose responses to clients are limited.
func (r *rates) handler(h http.Handler) http.Handler {
	return &bandwidth.Clients{Handler: h, Limit: &r.clients, Client: func(r *http.Request) netip.Addr {
		address, _ := inbound.Client(r)
		return address
	}}
}
