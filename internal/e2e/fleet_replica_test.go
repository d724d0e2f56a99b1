package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/fleet"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/webhook"
)

// replicaVariable has the configuration of a replica, as JSON. The binary of the tests is one
// if it is set.
const replicaVariable = "E2E_REPLICA"

const (
	fleetID     = "fleet.example.com"
	fleetSecret = "a-secret-of-the-tests-and-no-other"
	fleetRule   = "team"
)

// replicaConfig is how a process of a fleet runs.
type replicaConfig struct {
	Clients string // where clients find this one, and /stats
	Open    string // where it listens for them
	Listen  string // where it listens for the other replicas; empty: it is alone
	Self    string // what the others call this one
	// PeersFile has an address a line, and is read for each blob: the tests change what a
	// replica believes while it runs.
	PeersFile string
	Upstream  string // host:port
	Dir       string // of the store, or of the near one
	Far       farConfig
	Hook      string        // where events are posted; empty: nowhere
	Owner     bool          // one replica copies an image for all
	Idle      time.Duration // Limits.IdleTimeout
	Segments  int           // Limits.Segments
	// Cert, Key and CA are PEM. If not empty, the replicas speak TLS and know one another
	// by certificates, else by a secret.
	Cert, Key, CA string
}

// replicaStats is what a replica says about itself.
type replicaStats struct {
	Cache cache.Stats
	Fleet fleet.Stats
	// Copies is what it knows of copies.
	Copies []string
}

// runReplica runs a replica until it is told to end, and returns the status of the process.
func runReplica(config string) int {
	var c replicaConfig
	err := json.Unmarshal([]byte(config), &c)
	if err == nil {
		err = c.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (rc *replicaConfig) run() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	dir, err := store.OpenDir(rc.Dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	st, err := rc.store(dir)
	if err != nil {
		return err
	}
	f, err := rc.fleet()
	if err != nil {
		return err
	}
	c, err := rc.cache(st, f)
	if err != nil {
		return err
	}
	if rc.Hook != "" {
		outbox := &webhook.Outbox{Records: dir, Receivers: []webhook.Receiver{{Name: "hook", Sink: &webhook.HTTP{URL: rc.Hook}}}, Logger: replicaLogger()}
		if err := outbox.Start(ctx); err != nil {
			return err
		}
		c.Events = outbox
	}
	if err := c.Start(ctx); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/v2/", c)
	mux.HandleFunc("/stats", func(w http.ResponseWriter, _ *http.Request) {
		s := replicaStats{Cache: c.Stats(), Fleet: f.Stats()}
		for _, one := range c.Copies() {
			s.Copies = append(s.Copies, fmt.Sprintf("%v, err %v", one, one.Err))
		}
		_ = json.NewEncoder(w).Encode(s)
	})
	if rc.Listen != "" {
		peers := f.Server(c)
		peers.Addr = rc.Listen
		if f.TLS != nil {
			peers.TLSConfig = &tls.Config{Certificates: f.TLS.Certificates, ClientCAs: f.TLS.RootCAs, ClientAuth: tls.RequireAndVerifyClientCert}
			go func() { log.Fatal(peers.ListenAndServeTLS("", "")) }()
		} else {
			go func() { log.Fatal(peers.ListenAndServe()) }()
		}
	}
	l, err := net.Listen("tcp", rc.Open)
	if err != nil {
		return err
	}
	clients := &http.Server{Handler: mux, ErrorLog: log.New(io.Discard, "", 0)} // cut responses
	go func() { _ = clients.Serve(l) }()
	<-ctx.Done()
	f.Leave()
	end, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(clients.Shutdown(end), c.Shutdown(end))
}

// store is the folder, or a tier of the folder and what is far.
func (rc *replicaConfig) store(dir *store.Dir) (store.Store, error) {
	if rc.Far.Kind == "" {
		return dir, nil
	}
	far, err := rc.Far.open()
	if err != nil {
		return nil, err
	}
	return &store.Tier{Near: dir, Far: far, Logger: replicaLogger()}, nil
}

// cache makes the cache of a replica. The rule covers all that the upstream has below team.
func (rc *replicaConfig) cache(s store.Store, f *fleet.Fleet) (*cache.Cache, error) {
	rules, err := rule.NewSet(rule.Rule{Name: fleetRule, Source: rc.Upstream + "/team/*", Target: "mirror/*"})
	if err != nil {
		return nil, err
	}
	c := &cache.Cache{
		ID: fleetID, Rules: rules, Store: s, Logger: replicaLogger(),
		Upstream: &upstream.Client{Hosts: map[string]upstream.Host{rc.Upstream: {PlainHTTP: true}}, Dial: dialShort},
	}
	c.Limits.IdleTimeout, c.Limits.Segments = rc.Idle, rc.Segments
	if rc.Listen != "" {
		c.Upstream = f.Opener(c.Upstream)
	}
	if rc.Owner {
		copier := f.Copier(c)
		c.Copier = copier
		return c, copier.Check()
	}
	return c, nil
}

// dialShort is the other end of a [shortListener]: the kernel receives little for a process that
// does not read, such as one that is stopped. By default that may be several MiB.
func dialShort(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err == nil {
		err = c.(*net.TCPConn).SetReadBuffer(128 << 10)
	}
	return c, err
}

func (rc *replicaConfig) fleet() (*fleet.Fleet, error) {
	f := &fleet.Fleet{
		Self: rc.Self, Logger: replicaLogger(),
		Peers: func(context.Context) []string {
			b, _ := os.ReadFile(rc.PeersFile) // written whole, before the process starts
			return strings.Fields(string(b))
		},
	}
	if rc.Listen == "" {
		return f, nil
	}
	if rc.Cert == "" {
		f.Secret, f.Insecure = []byte(fleetSecret), true
		return f, f.Check()
	}
	pair, err := tls.X509KeyPair([]byte(rc.Cert), []byte(rc.Key))
	if err != nil {
		return nil, err
	}
	f.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: x509.NewCertPool()}
	if !f.TLS.RootCAs.AppendCertsFromPEM([]byte(rc.CA)) {
		return nil, errors.New("no certificate of the authority")
	}
	f.Trust = fleet.ClientCertificate
	return f, f.Check()
}

// replicaLogger writes what the tests show of a replica when they fail.
func replicaLogger() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
