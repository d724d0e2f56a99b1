package main

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/http"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/pullthrough/pullthrough/webhook"
)

// webhookConfig is one element of webhooks.
type webhookConfig struct {
	place
	name, scope, format, source word
	url                         secretConfig
	actions                     []word
	headers                     []headerConfig
	secrets                     []secretConfig // that sign requests
}

// headerConfig is one header that a receiver gets. Its name has the canonical
// spelling.
type headerConfig struct {
	name  string
	value secretConfig
}

// readWebhook reads one webhook and appends it.
func (c *config) readWebhook(r reader) read {
	return func(n *yaml.Node, at place) {
		one := webhookConfig{place: at}
		r.fields(n, at, map[string]read{
			"name":    r.word(&one.name),
			"url":     one.url.readText(r),
			"scope":   r.word(&one.scope),
			"actions": r.some(r.words(&one.actions), func() int { return len(one.actions) }),
			"format":  r.word(&one.format),
			"source":  r.word(&one.source),
			"headers": one.readHeaders(r),
			"secrets": r.some(r.list(one.readSecret(r)), func() int { return len(one.secrets) }),
		})
		if one.url.line == 0 && resolve(n).Kind == yaml.MappingNode {
			r.add(at, "url is missing")
		}
		c.webhooks = append(c.webhooks, one)
	}
}

// readSecret reads one signing secret and appends it.
func (w *webhookConfig) readSecret(r reader) read {
	return func(n *yaml.Node, at place) {
		var one secretConfig
		one.readText(r)(n, at)
		w.secrets = append(w.secrets, one)
	}
}

// readHeaders reads a mapping whose keys are names of headers.
func (w *webhookConfig) readHeaders(r reader) read {
	return func(n *yaml.Node, at place) {
		n = resolve(n)
		if n.Kind != yaml.MappingNode {
			r.add(at, "wants keys with values, not %s", kind(n))
			return
		}
		lines := map[string]int{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			here := place{key.Line, join(at.key, key.Value)}
			one := headerConfig{name: http.CanonicalHeaderKey(key.Value)}
			if line := lines[one.name]; line != 0 {
				r.add(here, "is given twice, first in line %d", line)
				continue
			}
			lines[one.name] = key.Line
			one.value.readText(r)(n.Content[i+1], here)
			w.headers = append(w.headers, one)
		}
	}
}

// readText reads a secret of a webhook, which may also be a plain text.
func (s *secretConfig) readText(r reader) read {
	return func(n *yaml.Node, at place) {
		n = resolve(n)
		if n.Kind == yaml.ScalarNode {
			s.place = at
			r.word(&s.value)(n, at)
			return
		}
		vault := slices.IndexFunc(n.Content, func(k *yaml.Node) bool { return k.Value == "keyVault" })
		if n.Kind == yaml.MappingNode && vault >= 0 && vault%2 == 0 {
			s.place = at
			r.add(place{n.Content[vault].Line, join(at.key, "keyVault")}, "is not supported for webhooks: use env or file")
			return
		}
		s.choose(r, n, at, "value, env and file", map[string]read{
			"value": r.word(&s.value), "env": r.word(&s.env), "file": r.word(&s.file),
		})
	}
}

// receiverName is the name under which events are queued. That of a nameless
// webhook is made of its URL, or of where that comes from: it stays when the
// list is reordered, and when a secret URL changes or cannot be read.
func (w webhookConfig) receiverName() string {
	if w.name.text != "" {
		return w.name.text
	}
	text := w.url.value.text
	switch {
	case w.url.env.text != "":
		text = "env:" + w.url.env.text
	case w.url.file.text != "":
		text = "file:" + w.url.file.text
	}
	sum := sha256.Sum256([]byte(text))
	return "hook-" + hex.EncodeToString(sum[:6])
}

// actionSet returns the actions in a form that can be compared; nil: all.
func (w webhookConfig) actionSet() []string {
	var all []string
	for _, a := range w.actions {
		all = append(all, a.text)
	}
	slices.Sort(all)
	if all = slices.Compact(all); len(all) == len(actions()) {
		return nil
	}
	return all
}

// actions returns what a webhook can be told of.
func actions() []string { return []string{webhook.ActionPush, webhook.ActionDelete} }

// same reports whether two webhooks say the same, wherever they stand.
func (w webhookConfig) same(o webhookConfig) bool {
	a, b := w.headerMap(), o.headerMap()
	return w.receiverName() == o.receiverName() && w.url.same(o.url) && w.scope.text == o.scope.text &&
		w.encoding() == o.encoding() && w.source.text == o.source.text && slices.Equal(w.actionSet(), o.actionSet()) &&
		maps.EqualFunc(a, b, secretConfig.same) && slices.EqualFunc(w.secrets, o.secrets, secretConfig.same)
}

func (w webhookConfig) headerMap() map[string]secretConfig {
	all := map[string]secretConfig{}
	for _, h := range w.headers {
		all[h.name] = h.value
	}
	return all
}

// sameWebhooks reports whether two files have the same webhooks, in any order.
func sameWebhooks(a, b []webhookConfig) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(w webhookConfig) bool { return !slices.ContainsFunc(b, w.same) })
}
