package webhook_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/webhook"
	"github.com/pullthrough/pullthrough/webhook/webhooktest"
)

// The samples of ACR's documentation.
const (
	pushSample = `{
  "id": "cb8c3971-9adc-488b-xxxx-43cbb4974ff5",
  "timestamp": "2017-11-17T16:52:01.343145347Z",
  "action": "push",
  "target": {
    "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
    "size": 524,
    "digest": "sha256:xxxxd5c8786bb9e621a45ece0dbxxxx1cdc624ad20da9fe62e9d25490f33xxxx",
    "length": 524,
    "repository": "hello-world",
    "tag": "v1"
  },
  "request": {
    "id": "3cbb6949-7549-4fa1-xxxx-a6d5451dffc7",
    "host": "myregistry.azurecr.io",
    "method": "PUT",
    "useragent": "docker/17.09.0-ce go/go1.8.3 git-commit/afdb6d4 kernel/4.10.0-27-generic os/linux arch/amd64 UpstreamClient(Docker-Client/17.09.0-ce \\(linux\\))"
  }
}`
	deleteSample = `{
  "id": "afc359ce-df7f-4e32-xxxx-1ff8aa80927b",
  "timestamp": "2017-11-17T16:54:53.657764628Z",
  "action": "delete",
  "target": {
    "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
    "digest": "sha256:xxxxd5c8786bb9e621a45ece0dbxxxx1cdc624ad20da9fe62e9d25490f33xxxx",
    "repository": "hello-world"
  },
  "request": {
    "id": "3d78b540-ab61-4f75-xxxx-7ca9ecf559b3",
    "host": "myregistry.azurecr.io",
    "method": "DELETE",
    "useragent": "python-requests/2.18.4"
  }
}`
	pingSample = `{"id": "1", "timestamp": "2017-11-17T16:54:53Z", "action": "ping"}`
)

var (
	moment = time.Date(2017, 11, 17, 16, 52, 1, 343145347, time.UTC)
	pushed = webhook.Event{
		ID: "cb8c3971-9adc-488b-xxxx-43cbb4974ff5", Timestamp: moment, Action: webhook.ActionPush,
		Target: webhook.Target{
			MediaType: "application/vnd.docker.distribution.manifest.v2+json", Size: 524, Length: 524, Repository: "hello-world", Tag: "v1",
			Digest: "sha256:xxxxd5c8786bb9e621a45ece0dbxxxx1cdc624ad20da9fe62e9d25490f33xxxx",
		},
		Request: &webhook.Request{
			ID: "3cbb6949-7549-4fa1-xxxx-a6d5451dffc7", Host: "myregistry.azurecr.io", Method: "PUT",
			UserAgent: `docker/17.09.0-ce go/go1.8.3 git-commit/afdb6d4 kernel/4.10.0-27-generic os/linux arch/amd64 UpstreamClient(Docker-Client/17.09.0-ce \(linux\))`,
		},
	}
	deleted = webhook.Event{
		ID: "afc359ce-df7f-4e32-xxxx-1ff8aa80927b", Timestamp: time.Date(2017, 11, 17, 16, 54, 53, 657764628, time.UTC), Action: webhook.ActionDelete,
		Target: webhook.Target{
			MediaType: pushed.Target.MediaType, Repository: "hello-world", Digest: pushed.Target.Digest,
		},
		Request: &webhook.Request{ID: "3d78b540-ab61-4f75-xxxx-7ca9ecf559b3", Host: "myregistry.azurecr.io", Method: "DELETE", UserAgent: "python-requests/2.18.4"},
	}
	pinged = webhook.Event{ID: "1", Timestamp: time.Date(2017, 11, 17, 16, 54, 53, 0, time.UTC), Action: webhook.ActionPing}
)

// fields flattens JSON: path -> type and value.
func fields(t *testing.T, data []byte) map[string]string {
	t.Helper()
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
	all := map[string]string{}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		if object, ok := v.(map[string]any); ok && len(object) > 0 {
			for name, v := range object {
				walk(path+"."+name, v)
			}
			return
		}
		all[path] = fmt.Sprintf("%T %v", v, v)
	}
	walk("", v)
	return all
}

// wantFields compares two JSON texts field by field.
func wantFields(t *testing.T, got []byte, want string) {
	t.Helper()
	g, w := fields(t, got), fields(t, []byte(want))
	for _, name := range slices.Sorted(maps.Keys(w)) {
		if g[name] != w[name] {
			t.Errorf("%s is %q, want %q", name, g[name], w[name])
		}
		delete(g, name)
	}
	for name, value := range g {
		t.Errorf("a field that ACR does not have: %s = %s", name, value)
	}
}

func TestJSONIsThatOfACR(t *testing.T) {
	for name, c := range map[string]struct {
		ev     webhook.Event
		sample string
	}{"push": {pushed, pushSample}, "delete": {deleted, deleteSample}, "ping": {pinged, pingSample}} {
		t.Run(name, func(t *testing.T) {
			data, err := json.Marshal(c.ev)
			if err != nil {
				t.Fatal(err)
			}
			wantFields(t, data, c.sample)
			var back webhook.Event
			if err := json.Unmarshal([]byte(c.sample), &back); err != nil {
				t.Fatal(err)
			}
			again, _ := json.Marshal(back)
			if !bytes.Equal(again, data) {
				t.Errorf("read and written again:\n%s\nwant\n%s", again, data)
			}
			if n := strings.Count(string(data), `"size":`) - strings.Count(string(data), `"length":`); n != 0 || c.ev.Target.Size != c.ev.Target.Length {
				t.Errorf("size and length differ: %s", data)
			}
		})
	}
	t.Run("untagged", func(t *testing.T) {
		ev := pushed
		ev.Target.Tag, ev.Request = "", nil
		data, _ := json.Marshal(ev)
		got := fields(t, data)
		if len(got) != 8 || got[".target.repository"] == "" {
			t.Errorf("%s", data)
		}
		for name := range got {
			if name == ".target.tag" || strings.HasPrefix(name, ".request") {
				t.Errorf("it has %s", name)
			}
		}
	})
}

func TestNewID(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := map[string]bool{}
	for range 1000 {
		id := webhook.NewID()
		if !form.MatchString(id) || seen[id] {
			t.Fatalf("id %q", id)
		}
		seen[id] = true
	}
	if p := webhook.Ping(); p.Action != "ping" || !form.MatchString(p.ID) || time.Since(p.Timestamp) > time.Minute || p.Target != (webhook.Target{}) {
		t.Errorf("ping %+v", p)
	}
}

// exchange sends an event and returns what arrived.
func exchange(t *testing.T, ev webhook.Event, sink *webhook.HTTP) webhooktest.Delivery {
	t.Helper()
	hook := webhooktest.New(t)
	sink.URL = hook.URL()
	if err := sink.Send(t.Context(), ev); err != nil {
		t.Fatal(err)
	}
	return hook.Deliveries()[0]
}

func TestACREncoding(t *testing.T) {
	d := exchange(t, pushed, &webhook.HTTP{})
	wantFields(t, d.Body, pushSample)
	if d.Header.Get("Content-Type") != "application/json" {
		t.Errorf("header %v", d.Header)
	}
	for name := range d.Header {
		if strings.HasPrefix(name, "Ce-") || strings.HasPrefix(name, "Webhook-") {
			t.Errorf("ACR sends no %s", name)
		}
	}
}

const source = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/myregistry"

func TestCloudEventsStructured(t *testing.T) {
	d := exchange(t, pushed, &webhook.HTTP{Encoding: webhook.CloudEventsStructured, Source: source})
	wantFields(t, d.Body, `{"specversion": "1.0", "id": "`+pushed.ID+`", "source": "`+source+`", "type": "Microsoft.ContainerRegistry.ImagePushed",
		"subject": "hello-world:v1", "time": "2017-11-17T16:52:01.343145347Z", "datacontenttype": "application/json", "data": `+pushSample+`}`)
	if got := d.Header.Get("Content-Type"); got != "application/cloudevents+json; charset=utf-8" {
		t.Errorf("content type %q", got)
	}
}

func TestCloudEventsBinary(t *testing.T) {
	d := exchange(t, deleted, &webhook.HTTP{Encoding: webhook.CloudEventsBinary, Source: source})
	wantFields(t, d.Body, deleteSample)
	want := map[string]string{"Ce-Specversion": "1.0", "Ce-Id": deleted.ID, "Ce-Source": source, "Ce-Type": "Microsoft.ContainerRegistry.ImageDeleted",
		"Ce-Subject": "hello-world@" + deleted.Target.Digest, "Ce-Time": "2017-11-17T16:54:53.657764628Z", "Content-Type": "application/json"}
	for name, value := range want {
		if got := d.Header.Get(name); got != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
}

func TestCloudEventTypesAndSubjects(t *testing.T) {
	untagged := pushed
	untagged.Target.Tag = ""
	own := webhook.Event{ID: "1", Action: "scanned"}
	for _, c := range []struct {
		ev            webhook.Event
		kind, subject string
	}{
		{pushed, "Microsoft.ContainerRegistry.ImagePushed", "hello-world:v1"},
		{untagged, "Microsoft.ContainerRegistry.ImagePushed", "hello-world@" + pushed.Target.Digest},
		{deleted, "Microsoft.ContainerRegistry.ImageDeleted", "hello-world@" + pushed.Target.Digest},
		{pinged, "io.github.pullthrough.ping", ""},
		{own, "io.github.pullthrough.scanned", ""},
	} {
		if ce := c.ev.CloudEvent(""); ce.Type != c.kind || ce.Subject != c.subject || ce.Source != "/pullthrough" || c.ev.Subject() != c.subject {
			t.Errorf("%+v, want type %s, subject %q", ce, c.kind, c.subject)
		}
	}
}

// binaryHeader is what a value looks like in a header of the binary encoding.
func binaryHeader(t *testing.T, subject string) (string, error) {
	t.Helper()
	hook := webhooktest.NewHandler()
	sink := &webhook.HTTP{URL: "http://hook.example.com/", Transport: hook.Transport(), Encoding: webhook.CloudEventsBinary}
	err := sink.Send(t.Context(), webhook.Event{ID: "1", Timestamp: moment, Action: "own", Target: webhook.Target{Repository: subject}})
	if got := hook.Deliveries(); len(got) == 1 {
		return got[0].Header.Get("Ce-Subject"), err
	}
	return "", err
}

func TestBinaryHeadersArePercentEncoded(t *testing.T) {
	for text, want := range map[string]string{
		"plain/~!#$&'()*+,;=:@[]": "plain/~!#$&'()*+,;=:@[]", "a b": "a%20b", `"`: "%22", "50%": "50%25", "%41": "%2541",
		"Euro € 😀": "Euro%20%E2%82%AC%20%F0%9F%98%80", "a\r\nb\x7f": "a%0D%0Ab%7F",
	} {
		if got, err := binaryHeader(t, text); err != nil || got != want {
			t.Errorf("%q is %q, want %q (%v)", text, got, want, err)
		}
	}
}

func FuzzBinaryHeader(f *testing.F) {
	f.Add("a b%")
	f.Fuzz(func(t *testing.T, text string) {
		if text == "" || strings.ToValidUTF8(text, "") != text {
			t.Skip("no name")
		}
		header, err := binaryHeader(t, text) // the recorder compares it with the body
		back, uerr := url.PathUnescape(header)
		if err != nil || uerr != nil || back != text || strings.ContainsAny(header, " \t\r\n") {
			t.Errorf("%q became %q (%v, %v)", text, header, err, uerr)
		}
	})
}
