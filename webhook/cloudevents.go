package webhook

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// CloudEvent is an event in the JSON of CloudEvents 1.0.
type CloudEvent struct {
	SpecVersion     string    `json:"specversion"`
	ID              string    `json:"id"`
	Source          string    `json:"source"`
	Type            string    `json:"type"`
	Subject         string    `json:"subject,omitempty"`
	Time            time.Time `json:"time"`
	DataContentType string    `json:"datacontenttype,omitempty"`
	Data            Event     `json:"data"`
}

// cloudTypes are the types that Event Grid gives to a registry's events, by action.
// It is never written.
var cloudTypes = map[string]string{
	ActionPush:   "Microsoft.ContainerRegistry.ImagePushed",
	ActionDelete: "Microsoft.ContainerRegistry.ImageDeleted",
}

// CloudEvent returns the event as a CloudEvent. If source is empty, it is
// "/pullthrough". The type is the one that Event Grid uses for the action. For a ping
// and other actions, which Event Grid does not know, the type is
// "io.github.pullthrough." followed by the action.
func (e Event) CloudEvent(source string) CloudEvent {
	if source == "" {
		source = "/pullthrough"
	}
	kind, ok := cloudTypes[e.Action]
	if !ok {
		kind = "io.github.pullthrough." + e.Action
	}
	return CloudEvent{SpecVersion: "1.0", ID: e.ID, Source: source, Type: kind, Subject: e.Subject(),
		Time: e.Timestamp, DataContentType: "application/json", Data: e}
}

// encode returns the body of a request for an event, and the headers that belong to
// the encoding.
func (f Encoding) encode(ev Event, source string) ([]byte, http.Header, error) {
	ce := ev.CloudEvent(source)
	var body any = ev
	header := http.Header{"Content-Type": {"application/json"}}
	switch f {
	case ACR:
	case CloudEventsStructured:
		body = ce
		header.Set("Content-Type", "application/cloudevents+json; charset=utf-8")
	case CloudEventsBinary:
		for name, value := range map[string]string{"specversion": ce.SpecVersion, "id": ce.ID, "source": ce.Source,
			"type": ce.Type, "subject": ce.Subject, "time": ce.Time.Format(time.RFC3339Nano)} {
			if value != "" {
				header.Set("ce-"+name, percent(value))
			}
		}
	default:
		return nil, nil, fmt.Errorf("%w: there is no encoding %d", ErrConfig, f)
	}
	data, err := json.Marshal(body)
	return data, header, err
}

// percent encodes the bytes that a header must not hold in the HTTP binding of
// CloudEvents (3.1.3.2): space, quote, percent, and everything but printable ASCII.
func percent(value string) string {
	var b strings.Builder
	for i := range len(value) {
		if c := value[i]; c <= ' ' || c > '~' || c == '"' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
