package remote

import (
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
)

// where holds the flags that say which proxy is meant, and how to prove that one may act.
type where struct {
	admin, config, tokenFile string
	ca, cert, key            string
}

// whereFlags adds the flags.
func whereFlags(flags *flag.FlagSet) *where {
	w := &where{}
	flags.StringVar(&w.admin, "admin", "", "the admin `ADDRESS`: HOST:PORT, or https://HOST:PORT; default: that of -config, or PROXY_ADMIN of the environment")
	flags.StringVar(&w.config, "config", "", "the `FILE` of a proxy on this machine, which says its admin address and its token")
	flags.StringVar(&w.tokenFile, "token-file", "", "the `FILE` that has the token; default: PROXY_TOKEN of the environment, or what -config says")
	flags.StringVar(&w.ca, "ca", "", "a `FILE` with the authorities of the proxy's certificate, in PEM form; default: those of the system")
	flags.StringVar(&w.cert, "cert", "", "a `FILE` with a client certificate, with -key")
	flags.StringVar(&w.key, "key", "", "the `FILE` with the key of -cert")
	return w
}

// target returns what the flags and the environment say. A token of -config goes to the address
// of -config alone.
func (w *where) target(env Environment) (Target, error) {
	var t Target
	switch {
	case w.admin != "":
		t.Address = w.admin
	case w.config != "":
		var err error
		if t, err = env.Settings(w.config); err != nil {
			return Target{}, err
		}
	default:
		t.Address = env.Getenv("PROXY_ADMIN")
	}
	if t.Address == "" {
		return Target{}, errors.New("which proxy? Give -admin ADDRESS or -config FILE, or set PROXY_ADMIN")
	}
	if err := w.readToken(env, &t); err != nil {
		return Target{}, err
	}
	return t, w.readTLS(&t)
}

// readToken reads the token that the user has given.
func (w *where) readToken(env Environment, t *Target) error {
	if w.tokenFile == "" {
		if token := env.Getenv("PROXY_TOKEN"); token != "" {
			t.Token = token
		}
	} else {
		data, err := os.ReadFile(w.tokenFile)
		if err != nil {
			return err
		}
		t.Token = strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	}
	if strings.ContainsFunc(t.Token, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return errors.New("the token has a space, a line break or a character beyond ASCII in it")
	}
	return nil
}

// readTLS reads the files about certificates.
func (w *where) readTLS(t *Target) error {
	if w.ca == "" && w.cert == "" && w.key == "" {
		return nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.TLS != nil {
		c = t.TLS.Clone()
	}
	if w.ca != "" {
		data, err := os.ReadFile(w.ca)
		if err != nil {
			return err
		}
		roots, ok := pool(data)
		if !ok {
			return fmt.Errorf("%s has no certificate in PEM form", w.ca)
		}
		c.RootCAs = roots
	}
	if w.cert != "" || w.key != "" {
		pair, err := tls.LoadX509KeyPair(w.cert, w.key)
		if err != nil {
			return fmt.Errorf("-cert and -key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	t.TLS = c
	return nil
}

// Uses reports whether arguments name a running proxy by -admin or -config.
func Uses(args []string) bool {
	for _, a := range args {
		name, ok := strings.CutPrefix(a, "-")
		if !ok {
			continue
		}
		name, _, _ = strings.Cut(strings.TrimPrefix(name, "-"), "=")
		if name == "admin" || name == "config" {
			return true
		}
	}
	return false
}
