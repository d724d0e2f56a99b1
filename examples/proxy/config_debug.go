package main

import (
	"net/http"
	"net/http/pprof"

	"go.yaml.in/yaml/v3"
)

// debugConfig says what is shown to those who look for faults in the program itself.
type debugConfig struct {
	position
	pprof bool
}

// read returns the read of the debug section.
func (d *debugConfig) read(r reader) read {
	return func(n *yaml.Node, pos position) {
		d.position = pos
		r.fields(n, pos, map[string]read{"pprof": r.flag(&d.pprof)})
	}
}

// checkDebug notes profiles that nobody could see. [settings.readAdmin] comes before it.
func (s *settings) checkDebug(c *config, found *mistakes) {
	if c.debug.pprof && !s.access.Acting() && c.adminAccess.token.line == 0 {
		found.add(c.debug.position, "pprof needs a token or a clientCA in adminAccess: profiles are for those who may act")
	}
}

// profiles serves /debug/pprof/, or is nil if the file does not name it.
func (s *settings) profiles() http.Handler {
	if !s.config.debug.pprof {
		return nil
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}
