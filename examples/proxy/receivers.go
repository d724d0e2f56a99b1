package main

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/webhook"
)

// newReceivers returns the receivers of the file.
func newReceivers(list []webhookConfig, found *mistakes) []webhook.Receiver {
	var all []webhook.Receiver
	lines := map[string]int{}
	for _, w := range list {
		name := w.receiverName()
		switch line := lines[name]; {
		case line == 0:
			lines[name] = w.line
		case w.name.text != "":
			found.add(w.name.position, "%q is the name of the webhook in line %d too", name, line)
		case w.url.same(secretConfig{}): // noted when it was read
		default:
			found.add(w.url.position, "is that of the webhook in line %d too; give each of the two a name", line)
		}
		if err := webhook.Scope(w.scope.text).Check(); err != nil {
			found.add(w.scope.position, "%s", plain(err))
		}
		for _, a := range w.actions {
			if a.text != "" && !slices.Contains(actions(), a.text) {
				found.add(a.position, "%q is not push, delete or quarantine", a.text)
			}
		}
		all = append(all, webhook.Receiver{Name: name, Sink: w.hook(found), Scope: webhook.Scope(w.scope.text), Actions: w.actionSet()})
	}
	return all
}

// hook returns the sink of a webhook, and notes its mistakes.
func (w webhookConfig) hook(found *mistakes) *hook {
	h := &hook{encoding: w.encoding(), source: w.source.text, headers: map[string]auth.Secret{}}
	if h.encoding < 0 {
		found.add(w.format.position, "%q is none of acr, cloudevents and cloudevents-binary", w.format.text)
	}
	if _, err := url.Parse(w.source.text); err != nil {
		found.add(w.source.position, "%q is no URI reference", w.source.text)
	} else if w.source.given() && h.encoding == webhook.ACR {
		found.add(w.source.position, "makes no sense with the format acr: only CloudEvents have a source")
	}
	h.url = w.url.checked(found, func(text string) error { return (&webhook.HTTP{URL: text}).Check() })
	for _, header := range w.headers {
		h.headers[header.name] = header.checked(found)
	}
	for _, s := range w.secrets {
		h.secrets = append(h.secrets, s.checked(found, func(text string) error {
			return (&webhook.HTTP{URL: anyURL, Secrets: []string{text}}).Check()
		}))
	}
	return h
}

// anyURL is a valid URL, for checks of everything else.
const anyURL = "http://localhost"

// encoding returns the encoding that format names, or a negative one if there is none.
func (w webhookConfig) encoding() webhook.Encoding {
	switch w.format.text {
	case "", "acr":
		return webhook.ACR
	case "cloudevents":
		return webhook.CloudEventsStructured
	case "cloudevents-binary":
		return webhook.CloudEventsBinary
	}
	return -1
}

// checked returns a secret text, and notes what is wrong with it without repeating it. As
// with credentials, a text that cannot be read is no mistake; [warnReceivers] logs it at the
// start.
func (s secretConfig) checked(found *mistakes, check func(text string) error) auth.Secret {
	secret := s.secret(nil, word{}, found)
	if secret == nil {
		return nil // noted when it was read
	}
	if text, _, err := secret.Read(context.Background()); err == nil {
		if err := check(text.Reveal()); err != nil {
			found.add(s.position, "%s", plain(err))
		}
	}
	return secret
}

// checked returns the value of a header, and notes what is wrong with it and with the name.
func (h headerConfig) checked(found *mistakes) auth.Secret {
	switch h.name {
	case "Content-Length", "Transfer-Encoding", "Trailer", "Connection":
		found.add(h.value.position, "belongs to HTTP and cannot be set")
	case "Webhook-Id", "Webhook-Timestamp", "Webhook-Signature":
		found.add(h.value.position, "belongs to the signature, which secrets make")
	}
	if err := (&webhook.HTTP{URL: anyURL, Header: http.Header{h.name: nil}}).Check(); err != nil {
		found.add(h.value.position, "%s", plain(err))
	}
	return h.value.checked(found, func(text string) error {
		if strings.ContainsFunc(text, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
			return errors.New("the value has a line break or another control character in it")
		}
		return nil
	})
}
