package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// config is the file as it is written. What it says may still be wrong as a
// whole; [build] tells.
type config struct {
	listen, admin word
	publicHost    word
	tls           tlsConfig
	store         word
	tenant, cloud word
	identities    []word
	freshness     time.Duration
	nested        bool
	rules         []ruleConfig
	credentials   []credentialConfig
	upstreams     []upstreamConfig
	webhooks      []webhookConfig
}

// tlsConfig is the certificate that clients see.
type tlsConfig struct {
	place
	cert, key word
}

// ruleConfig is one element of rules.
type ruleConfig struct {
	place
	name, source, target  word
	credentials, identity word // at most one of these two and federated
	federated             federatedConfig
	freshness, maxStale   time.Duration
	requireAccess         bool
	platforms             platformsConfig
	referrers             bool
}

// federatedConfig is ACR's announced form for a source in another tenant.
type federatedConfig struct {
	place
	tenant, clientID word
}

// platformsConfig is which platforms of an index are copied: one word, or a list.
type platformsConfig struct {
	place
	list []word
}

// given reports whether the key is in the file.
func (f federatedConfig) given() bool { return f.line != 0 }

// credentialConfig is one element of credentials.
type credentialConfig struct {
	place
	name, loginServer  word
	identity           word // reads what lies in a Key Vault
	username, password secretConfig
}

// secretConfig is where a secret comes from: exactly one of four.
type secretConfig struct {
	place
	value, env, file, keyVault word
}

// upstreamConfig is what is special about one upstream host.
type upstreamConfig struct {
	place
	host, ca    word
	plainHTTP   bool
	realms      []word
	redirects   []word
	anyUpstream bool // DANGER: see upstream.Host
	azure       azureConfig
}

// azureConfig declares what an Azure Container Registry is like.
type azureConfig struct {
	place
	tenant, network word
	trustedServices bool
}

// load reads a file. It returns what it understood together with everything
// that is wrong in it, so that later checks can add to the list.
func load(file string) (*config, *mistakes) {
	c, found := &config{}, &mistakes{file: file}
	data, err := os.ReadFile(file)
	if err != nil {
		found.add(place{}, "cannot be read: %v", errors.Unwrap(err))
		return c, found
	}
	root, err := parse(data)
	if err != nil {
		at, text := yamlFault(err)
		found.add(at, "%s", text)
		return c, found
	}
	if root == nil {
		return c, found // an empty file: all defaults
	}
	c.read(reader{found}, root)
	return c, found
}

// parse returns the only document of data; nil if there is nothing in it.
func parse(data []byte) (*yaml.Node, error) {
	d := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	if err := d.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, err
	}
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		if err == nil {
			err = fmt.Errorf("line %d: a second document; one is enough", more.Line)
		}
		return nil, err
	}
	if root := doc.Content[0]; !isNull(root) {
		return root, nil
	}
	return nil, nil
}

// yamlFault takes the line out of an error of the YAML parser, whose text is
// "yaml: line 3: what", or "yaml: what" for the first line and for an alias of
// nothing.
func yamlFault(err error) (place, string) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		number, what, _ := strings.Cut(rest, ": ")
		if line, err := strconv.Atoi(number); err == nil {
			return place{line: line}, "not YAML: " + what
		}
	}
	if strings.HasPrefix(text, "unknown anchor") {
		return place{}, "not YAML: " + text
	}
	return place{line: 1}, "not YAML: " + text
}
