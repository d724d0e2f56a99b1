package webhooktest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/pullthrough/pullthrough/webhook"
)

// parser reads an event out of a request, and notes the problems of the request.
type parser struct {
	header      http.Header
	body        []byte
	contentType string // expected instead of application/json
	problems    []string
}

func (p *parser) wrong(format string, args ...any) {
	p.problems = append(p.problems, fmt.Sprintf(format, args...))
}

func marshal(v any) []byte {
	data, _ := json.Marshal(v) // plain data
	return data
}

// parse reads an event in any of the encodings, which it distinguishes as CloudEvents
// demands.
func (p *parser) parse() (webhook.Event, webhook.Encoding) {
	contentType := p.header.Get("Content-Type")
	var ev webhook.Event
	if strings.HasPrefix(contentType, "application/cloudevents+json") {
		var ce webhook.CloudEvent
		if p.decode(&ce, "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data") {
			var raw struct{ Data json.RawMessage }
			_ = json.Unmarshal(p.body, &raw)
			p.body = raw.Data
			p.event(&ev)
			p.cloudEvent(ce, ev)
		}
		return ev, webhook.CloudEventsStructured
	}
	want := "application/json"
	if p.contentType != "" {
		want = p.contentType
	}
	if contentType != want {
		p.wrong("Content-Type is %q, want %q", contentType, want)
	}
	p.event(&ev)
	if p.header.Get("Ce-Specversion") == "" {
		return ev, webhook.ACR
	}
	p.cloudEvent(p.attributes(), ev)
	return ev, webhook.CloudEventsBinary
}

// decode reads the body, whose fields are names. encoding/json accepts names in any
// case, so decode checks them itself.
func (p *parser) decode(into any, names ...string) bool {
	dec := json.NewDecoder(bytes.NewReader(p.body))
	if err := dec.Decode(into); err != nil || dec.More() {
		p.wrong("the body is no event: %v: %s", err, p.body)
		return false
	}
	p.names("", p.body, names...)
	return true
}

// names checks that an object has no field but names, and none that is null.
func (p *parser) names(where string, object []byte, names ...string) {
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(object, &fields) // decode has reported a value that is no object
	for name, value := range fields {
		if !slices.Contains(names, name) {
			p.wrong("there is no field %s%s", where, name)
		}
		if string(value) == "null" {
			p.wrong("the field %s%s is null", where, name)
		}
	}
}

// event reads and checks the event itself.
func (p *parser) event(ev *webhook.Event) {
	if !p.decode(ev, "id", "timestamp", "action", "target", "request") {
		return
	}
	var parts struct{ Target, Request json.RawMessage }
	_ = json.Unmarshal(p.body, &parts)
	p.names("target.", parts.Target, "mediaType", "size", "digest", "length", "repository", "tag")
	p.names("request.", parts.Request, "id", "host", "method", "useragent")

	for name, missing := range map[string]bool{"id": ev.ID == "", "timestamp": ev.Timestamp.IsZero(), "action": ev.Action == ""} {
		if missing {
			p.wrong("an event without %s: %s", name, p.body)
		}
	}
	t := ev.Target
	if t.Size != t.Length {
		p.wrong("size %d is not length %d", t.Size, t.Length)
	}
	switch ev.Action {
	case webhook.ActionPing:
		if t != (webhook.Target{}) {
			p.wrong("a ping has a target: %s", p.body)
		}
	case webhook.ActionPush, webhook.ActionDelete:
		if t.MediaType == "" || t.Repository == "" || !strings.Contains(t.Digest, ":") {
			p.wrong("a %s without mediaType, digest or repository: %s", ev.Action, p.body)
		}
		if ev.Action == webhook.ActionPush && t.Size <= 0 {
			p.wrong("a push without size: %s", p.body)
		}
	}
}

// attributes reads the headers of the binary encoding.
func (p *parser) attributes() webhook.CloudEvent {
	get := func(name string) string {
		text := p.header.Get("Ce-" + name)
		value, err := url.PathUnescape(text)
		if err != nil {
			p.wrong("ce-%s is not percent-encoded: %q", name, text)
		}
		return value
	}
	ce := webhook.CloudEvent{SpecVersion: get("specversion"), ID: get("id"), Source: get("source"), Type: get("type"),
		Subject: get("subject"), DataContentType: "application/json"}
	var err error
	if ce.Time, err = time.Parse(time.RFC3339Nano, get("time")); err != nil {
		p.wrong("ce-time is %q", get("time"))
	}
	for name := range p.header {
		if attribute, ok := strings.CutPrefix(name, "Ce-"); ok &&
			!slices.Contains([]string{"Specversion", "Id", "Source", "Type", "Subject", "Time"}, attribute) {
			p.wrong("there is no attribute %s", name)
		}
	}
	return ce
}

// cloudEvent checks that the attributes of a CloudEvent are those of its event.
func (p *parser) cloudEvent(ce webhook.CloudEvent, ev webhook.Event) {
	want := ev.CloudEvent(ce.Source)
	if ce.Source == "" {
		p.wrong("a CloudEvent without source")
	}
	ce.Data = want.Data
	if !ce.Time.Equal(want.Time) {
		p.wrong("the time of the CloudEvent is %s, that of the event %s", ce.Time, want.Time)
	}
	ce.Time = want.Time
	if got, want := marshal(ce), marshal(want); !bytes.Equal(got, want) {
		p.wrong("the CloudEvent is %s, want %s", got, want)
	}
}
