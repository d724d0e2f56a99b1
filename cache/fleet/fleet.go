package fleet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pullthrough/pullthrough/upstream"
)

// minSecret is how many bytes a Secret must have.
const minSecret = 16

// Fleet is this replica among the others. Self and Peers must be set, and Secret or Trust.
// Its fields must not change after first use. It is safe for concurrent use.
type Fleet struct {
	// Self is host:port of this replica's Handler, spelled as the Peers of the others have
	// it.
	Self string
	// Peers returns the host:port of all replicas, with or without Self; see [Static] and
	// [DNS]. It is called for each blob, so it must not take long. A replica that it does not
	// name, and that has asked this one for a blob, is taken for one of them for a minute, if
	// it gave the proof that is asked of it now; with Open, there is none.
	Peers func(ctx context.Context) []string
	// TLS is how this replica speaks to the others. If nil, it speaks HTTP without TLS,
	// which Insecure must allow.
	TLS *tls.Config
	// Secret proves that a request comes from a replica. All have the same one, of 16 bytes
	// at least. If empty, Trust must be set.
	Secret []byte
	// FormerSecrets are accepted too, so that Secret can be changed on one replica after the
	// other: first each gets the new one here, then as Secret, with the old one here.
	FormerSecrets [][]byte
	// Trust reports whether a request comes from a replica, such as by its verified client
	// certificate; see [ClientCertificate]. If Secret is set too, both must hold. If nil,
	// the Secret alone decides.
	Trust func(r *http.Request) bool
	// Insecure allows to do without TLS. DANGER: the Secret and all content can be read and
	// changed by whatever lies between the replicas. A changed blob is noticed.
	Insecure bool
	// Open answers every request, without Secret and Trust. DANGER: every blob that a rule
	// covers can be read by anyone who reaches the Handler.
	Open bool
	// Least is the size in bytes from which on blobs are shared; each replica fetches
	// smaller ones for itself. If zero, all are shared. Blobs whose size is unknown are
	// shared always.
	Least int64
	// Transport sends requests to the others. If nil, it is one with short timeouts that
	// speaks HTTP/1.1, with TLS as its configuration, and without a proxy.
	Transport http.RoundTripper
	// Logger gets what goes wrong between replicas. If nil, nothing is logged.
	Logger *slog.Logger

	once    sync.Once
	bad     error // of Check
	log     *slog.Logger
	client  *http.Client
	scheme  string
	roles   roles
	health  health
	guests  guests
	doubts  *doubts
	refused refusals
	leaving atomic.Bool
	otherID seldom // that a replica has another Cache.ID
	counts  counts
	reading atomic.Int64 // requests with a body
	untold  atomic.Int64 // deletions that are told again
	life    life
	own     *http.Transport // the one that this Fleet made; nil if Transport is set
}

// Check reports what is wrong with the fields, or nil. A Fleet with wrong fields does
// nothing: its Opener returns the error, and its Handler answers 500.
func (f *Fleet) Check() error {
	f.begin()
	return f.bad
}

func (f *Fleet) check() error {
	switch {
	case !validAddress(f.Self): // or the others would take it for no replica
		return fmt.Errorf("fleet: Self is %q, and must be the host:port that the other replicas reach this one at", f.Self)
	case f.Peers == nil:
		return errors.New("fleet: Peers is missing")
	case f.TLS == nil && !f.Insecure:
		return errors.New("fleet: without TLS, the secret and all content can be read on their way: set TLS, or Insecure to accept that")
	case f.Open && (len(f.Secret) > 0 || f.Trust != nil):
		return errors.New("fleet: Open contradicts Secret and Trust")
	case f.Open:
	case len(f.Secret) == 0 && f.Trust == nil:
		return errors.New("fleet: without Secret or Trust, anyone could read every blob that a rule covers: set one of them, or Open to accept that")
	}
	if len(f.Secret) == 0 {
		if len(f.FormerSecrets) > 0 {
			return errors.New("fleet: there are FormerSecrets and no Secret")
		}
		return nil
	}
	for _, secret := range append([][]byte{f.Secret}, f.FormerSecrets...) {
		if err := checkSecret(secret); err != nil {
			return err
		}
	}
	return nil
}

func checkSecret(secret []byte) error {
	if len(secret) < minSecret {
		return fmt.Errorf("fleet: a secret has %d bytes, and needs %d at least", len(secret), minSecret)
	}
	for _, b := range secret {
		if b <= ' ' || b > '~' {
			return errors.New("fleet: a secret must consist of printable ASCII characters without blanks, such as 32 random bytes in base64")
		}
	}
	return nil
}

// begin resolves the fields at first use.
func (f *Fleet) begin() {
	f.once.Do(func() {
		f.log = f.Logger
		if f.log == nil {
			f.log = slog.New(slog.DiscardHandler)
		}
		f.bad = f.check()
		f.scheme = "http"
		if f.TLS != nil {
			f.scheme = "https"
		}
		f.life.ctx, f.life.end = context.WithCancel(context.Background())
		transport := f.Transport
		if transport == nil {
			f.own = NewTransport(f.TLS)
			transport = f.own
		}
		f.client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		f.roles.blobs = map[key]*role{}
		f.health = newHealth()
		f.doubts = newDoubts()
		f.refused = newRefusals()
		switch {
		case f.bad != nil:
		case f.Open:
			f.log.Warn("fleet: anyone who reaches the peer listener can read every blob that a rule covers", "self", f.Self)
		case f.Insecure && f.TLS == nil:
			f.log.Warn("fleet: what replicas say to one another is not encrypted", "self", f.Self)
		}
	})
}

// NewTransport returns what a Fleet sends its requests by if it has no Transport. It may be
// changed before its first use, such as by a DialTLSContext whose certificates change. Replicas
// are near: what takes long has failed. There is no HTTP/2, whose single connection is slower for
// large blobs.
func NewTransport(config *tls.Config) *http.Transport {
	t := &http.Transport{
		DialContext:        (&net.Dialer{Timeout: silence}).DialContext,
		TLSClientConfig:    config.Clone(),
		DisableCompression: true, ReadBufferSize: 64 << 10, MaxResponseHeaderBytes: 16 << 10,
		MaxIdleConnsPerHost: 16, IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 5 * time.Second,
		Protocols: new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	return t
}

// Leave makes this replica refuse to begin or promise anything for the others; what it
// sends goes on. Call it before the server is shut down.
func (f *Fleet) Leave() { f.leaving.Store(true) }

// drainEvery is how often Drain looks.
const drainEvery = 20 * time.Millisecond

// Drain is Leave, and then waits until nothing that this replica fetches is on its way to
// another one, or for ctx, whose error it returns then. Call it after the server for clients was
// shut down, and before the one for replicas is: a replica that has no port any more, or does
// not answer whether it lives, is given up by those that it sends to.
func (f *Fleet) Drain(ctx context.Context) error {
	f.begin()
	f.Leave()
	ticker := time.NewTicker(drainEvery)
	defer ticker.Stop()
	for f.roles.serves() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
	return nil
}

// members returns all replicas, Self and guests among them.
func (f *Fleet) members(ctx context.Context) []string {
	peers := f.Peers(ctx)
	all := slices.Clip(peers)
	for _, p := range append(f.guests.all(), f.Self) {
		if !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	return all
}

// knows reports whether peer is another replica.
func (f *Fleet) knows(ctx context.Context, peer string) bool {
	return peer != f.Self && slices.Contains(f.members(ctx), peer)
}

// Opener returns an opener whose blobs come from the replica that fetches them, and from
// next if that is this one. Everything else comes from next.
func (f *Fleet) Opener(next upstream.Opener) upstream.Opener {
	f.begin()
	return opener{f, next}
}
