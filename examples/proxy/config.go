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

// config is the content of the file. It may still have mistakes, which [build] finds.
type config struct {
	listen, admin word
	id            word // in CDN-Loop; a fleet has one
	publicHost    word
	adminAccess   adminConfig
	debug         debugConfig
	tls           listenTLSConfig
	store         word
	far           farConfig // a bucket behind the store
	tenant, cloud word
	identities    []word
	eviction      evictionConfig
	freshness     time.Duration
	drain         position // of drainTime, which counts only if it is given
	drainTime     time.Duration
	nested        bool
	rules         []ruleConfig
	credentials   []credentialConfig
	upstreams     []upstreamConfig
	webhooks      []webhookConfig

	access         accessConfig
	limits         limitsConfig
	trustedProxies []word
	bandwidth      bandwidthConfig
	prefetch       []prefetchConfig
	fleet          fleetConfig
}

// tlsConfig names the certificate that clients receive.
type tlsConfig struct {
	position
	cert, key word
}

// ruleConfig is one element of rules.
type ruleConfig struct {
	position
	name, source, target  word
	credentials, identity word // at most one of these two and federated
	federated             federatedConfig
	freshness, maxStale   time.Duration
	requireAccess         bool
	platforms             platformsConfig
	referrers             bool
	maxBytes              int64
	minAge                time.Duration
	gate                  gateConfig
}

// evictionConfig says what is given up when space is short.
type evictionConfig struct {
	position
	maxBytes, minFree int64 // minFree is negative if the file says 0
	maxAge            time.Duration
	keep              []word
}

// federatedConfig is ACR's form for a source in another tenant, which is announced.
type federatedConfig struct {
	position
	tenant, clientID word
}

// platformsConfig selects the platforms of an index that are copied: one word, or a list.
type platformsConfig struct {
	position
	list []word
}

// given reports whether the key is in the file.
func (f federatedConfig) given() bool { return f.line != 0 }

// credentialConfig is one element of credentials.
type credentialConfig struct {
	position
	name, loginServer  word
	identity           word // that reads secrets in a Key Vault
	username, password secretConfig
}

// secretConfig is the source of a secret: exactly one of four.
type secretConfig struct {
	position
	value, env, file, keyVault word
}

// upstreamConfig holds the settings of one upstream host.
type upstreamConfig struct {
	position
	host, ca    word
	plainHTTP   bool
	realms      []word
	redirects   []word
	anyUpstream bool // DANGER: see upstream.Host
	azure       azureConfig
	clientCert  clientCertConfig
	bandwidth   int64
	mirrors     []mirrorConfig
	keepBudget  int64 // pulls that are kept for what is not stored
}

// azureConfig declares the tenant and network of an Azure Container Registry.
type azureConfig struct {
	position
	tenant, network word
	trustedServices bool
}

// load reads a file. It returns the content as far as it is valid, and all mistakes, so that
// later checks can add to the list.
func load(file string) (*config, *mistakes) {
	c, found := &config{}, &mistakes{file: file}
	data, err := os.ReadFile(file)
	if err != nil {
		found.add(position{}, "cannot be read: %v", errors.Unwrap(err))
		return c, found
	}
	root, err := parse(data)
	if err != nil {
		pos, text := yamlFault(err)
		found.add(pos, "%s", text)
		return c, found
	}
	if root == nil {
		return c, found // an empty file: all defaults
	}
	c.read(reader{mistakes: found}, root)
	return c, found
}

// parse returns the only document of data, or nil if it is empty.
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

// yamlFault splits an error of the YAML parser into position and text. Its text is "yaml:
// line 3: what", or "yaml: what" for the first line and for an unknown alias.
func yamlFault(err error) (position, string) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		number, what, _ := strings.Cut(rest, ": ")
		if line, err := strconv.Atoi(number); err == nil {
			return position{line: line}, "not YAML: " + what
		}
	}
	if strings.HasPrefix(text, "unknown anchor") {
		return position{}, "not YAML: " + text
	}
	return position{line: 1}, "not YAML: " + text
}
