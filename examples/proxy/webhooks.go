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
	position
	name, scope, format, source word
	url                         secretConfig
	actions                     []word
	headers                     []headerConfig
	secrets                     []secretConfig // with which requests are signed
}

// headerConfig is one header of requests to a receiver. Its name is in canonical form.
type headerConfig struct {
	name  string
	value secretConfig
}

// readWebhook reads one webhook and appends it.
func (c *config) readWebhook(r reader) read {
	return func(n *yaml.Node, pos position) {
		one := webhookConfig{position: pos}
		r.fields(n, pos, map[string]read{
			"name":    r.word(&one.name),
			"url":     one.url.readText(r),
			"scope":   r.word(&one.scope),
			"actions": r.some(r.list(r.among(r.appended(&one.actions), actions()...)), func() int { return len(one.actions) }),
			"format":  r.among(r.word(&one.format), "acr", "cloudevents", "cloudevents-binary"),
			"source":  r.word(&one.source),
			"headers": one.readHeaders(r),
			"secrets": r.some(r.list(one.readSecret(r)), func() int { return len(one.secrets) }),
		})
		if r.sketch != nil || resolve(n).Kind == yaml.MappingNode {
			r.requireGiven(pos, "url", one.url.line != 0)
		}
		c.webhooks = append(c.webhooks, one)
	}
}

// readSecret reads one signing secret and appends it.
func (w *webhookConfig) readSecret(r reader) read {
	return func(n *yaml.Node, pos position) {
		var one secretConfig
		one.readText(r)(n, pos)
		w.secrets = append(w.secrets, one)
	}
}

// readHeaders reads a mapping whose keys are names of headers.
func (w *webhookConfig) readHeaders(r reader) read {
	return func(n *yaml.Node, pos position) {
		if r.sketch != nil {
			s := r.sketch.at(pos.key)
			s.Type, s.Additional = []string{"object"}, r.child(join(pos.key, "*"), new(secretConfig).readText(r))
			return
		}
		n = resolve(n)
		if n.Kind != yaml.MappingNode {
			r.add(pos, "wants keys with values, not %s", kind(n))
			return
		}
		lines := map[string]int{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			here := position{key.Line, join(pos.key, key.Value)}
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

// readText returns the read of a secret of a webhook, which may also be a plain text.
func (s *secretConfig) readText(r reader) read {
	return func(n *yaml.Node, pos position) {
		if r.describes(pos, r.word(nil), s.readSource(r)) {
			return
		}
		n = resolve(n)
		if n.Kind == yaml.ScalarNode {
			s.position = pos
			r.word(&s.value)(n, pos)
			return
		}
		vault := slices.IndexFunc(n.Content, func(k *yaml.Node) bool { return k.Value == "keyVault" })
		if n.Kind == yaml.MappingNode && vault >= 0 && vault%2 == 0 {
			s.position = pos
			r.add(position{n.Content[vault].Line, join(pos.key, "keyVault")}, "is not supported for webhooks: use env or file")
			return
		}
		s.readSource(r)(n, pos)
	}
}

// readSource returns the read of where the secret of a webhook is.
func (s *secretConfig) readSource(r reader) read {
	return func(n *yaml.Node, pos position) {
		s.choose(r, n, pos, "value, env and file", map[string]read{
			"value": r.word(&s.value), "env": r.word(&s.env), "file": r.word(&s.file),
		})
	}
}

// receiverName returns the name under which events are queued. For a webhook without a name
// it is made of the URL, or of its source, so that it does not change when the list is
// reordered, and when a secret URL changes or cannot be read.
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

// actionSet returns the actions sorted. Those of a webhook that names none are what ACR's
// webhooks are mostly for, so that events of holds come to those who ask for them.
func (w webhookConfig) actionSet() []string {
	if len(w.actions) == 0 {
		return []string{webhook.ActionDelete, webhook.ActionPush}
	}
	var all []string
	for _, a := range w.actions {
		all = append(all, a.text)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// actions returns the actions of which webhooks can receive events.
func actions() []string {
	return []string{webhook.ActionPush, webhook.ActionDelete, webhook.ActionQuarantine}
}

// same reports whether two webhooks are equal, apart from their positions.
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
