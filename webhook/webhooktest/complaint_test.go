package webhooktest_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/webhook"
	"github.com/pullthrough/pullthrough/webhook/webhooktest"
)

// failing is a test that only counts its failures.
type failing struct {
	testing.TB
	mu     sync.Mutex
	errors []string
}

func (f *failing) Error(args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errors = append(f.errors, args[0].(string))
}

const (
	good  = `{"id":"1","timestamp":"2023-11-17T16:52:01Z","action":"push","target":{"mediaType":"m","size":5,"digest":"sha256:0a","length":5,"repository":"a","tag":"v1"}}`
	cloud = `{"specversion":"1.0","id":"1","source":"/s","type":"Microsoft.ContainerRegistry.ImagePushed","subject":"a:v1","time":"2023-11-17T16:52:01Z","datacontenttype":"application/json","data":` + good + `}`
)

// sent is a request of a test.
type sent struct {
	name    string
	method  string
	header  map[string]string
	body    string
	status  int
	problem string // in the complaint; "": none
}

func (s sent) do(t *testing.T, url string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), s.method, url, strings.NewReader(s.body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for name, value := range s.header {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// check sends each request to a receiver of its own.
func check(t *testing.T, cases []sent, prepare func(*webhooktest.Recorder)) {
	for _, s := range cases {
		t.Run(s.name, func(t *testing.T) {
			counted := &failing{TB: t}
			hook := webhooktest.New(counted)
			prepare(hook)
			if status := s.do(t, hook.URL()); status != s.status {
				t.Errorf("answered %d, want %d", status, s.status)
			}
			got := strings.Join(hook.Complaints(), "\n")
			if s.problem == "" && got != "" || !strings.Contains(got, s.problem) {
				t.Errorf("complains %q, want %q", got, s.problem)
			}
			if strings.Join(counted.errors, "\n") != got || (len(hook.Events()) == 1) != (s.problem == "") {
				t.Errorf("the test was told %q; taken: %v", counted.errors, hook.Events())
			}
		})
	}
}

func replace(text string, oldnew ...string) string {
	return strings.NewReplacer(oldnew...).Replace(text)
}

func TestComplaints(t *testing.T) {
	structured := map[string]string{"Content-Type": "application/cloudevents+json; charset=utf-8"}
	binary := func(name, value string) map[string]string {
		h := map[string]string{"Ce-Specversion": "1.0", "Ce-Id": "1", "Ce-Source": "/s", "Ce-Type": "Microsoft.ContainerRegistry.ImagePushed",
			"Ce-Subject": "a:v1", "Ce-Time": "2023-11-17T16:52:01Z"}
		h[name] = value
		return h
	}
	check(t, []sent{
		{"good", "POST", nil, good, 200, ""},
		{"method", "PUT", nil, good, 405, "PUT /hook, want POST"},
		{"content type", "POST", map[string]string{"Content-Type": "text/plain"}, good, 400, `Content-Type is "text/plain"`},
		{"no JSON", "POST", nil, "{", 400, "the body is no event"},
		{"two events", "POST", nil, good + good, 400, "the body is no event"},
		{"unknown field", "POST", nil, replace(good, `{"id"`, `{"x":1,"id"`), 400, "there is no field x"},
		{"unknown target field", "POST", nil, replace(good, `"size"`, `"url":"u","size"`), 400, "there is no field target.url"},
		{"unknown request field", "POST", nil, replace(good, `"action"`, `"request":{"addr":"1"},"action"`), 400, "there is no field request.addr"},
		{"case", "POST", nil, replace(good, "mediaType", "mediatype"), 400, "there is no field target.mediatype"},
		{"null", "POST", nil, replace(good, `"v1"`, `null`), 400, "the field target.tag is null"},
		{"type", "POST", nil, replace(good, `"size":5`, `"size":"5"`), 400, "the body is no event"},
		{"length", "POST", nil, replace(good, `"length":5`, `"length":6`), 400, "size 5 is not length 6"},
		{"no id", "POST", nil, replace(good, `"id":"1"`, `"id":""`), 400, "without id"},
		{"no time", "POST", nil, replace(good, `"timestamp":"2023-11-17T16:52:01Z",`, ""), 400, "without timestamp"},
		{"no action", "POST", nil, replace(good, `"action":"push",`, ""), 400, "without action"},
		{"no digest", "POST", nil, replace(good, "sha256:0a", ""), 400, "without mediaType, digest or repository"},
		{"no repository", "POST", nil, replace(good, `"repository":"a",`, ""), 400, "without mediaType, digest or repository"},
		{"no media type", "POST", nil, replace(good, `"mediaType":"m",`, ""), 400, "without mediaType, digest or repository"},
		{"no size", "POST", nil, replace(good, `"size":5,`, "", `"length":5,`, ""), 400, "a push without size"},
		{"delete without size", "POST", nil, replace(good, `"size":5,`, "", `"length":5,`, "", "push", "delete"), 200, ""},
		{"ping", "POST", nil, replace(good, "push", "ping"), 400, "a ping has a target"},
		{"own action", "POST", nil, `{"id":"1","timestamp":"2023-11-17T16:52:01Z","action":"scanned"}`, 200, ""},

		{"structured", "POST", structured, cloud, 200, ""},
		{"structured, no source", "POST", structured, replace(cloud, `"/s"`, `""`), 400, "without source"},
		{"structured, unknown field", "POST", structured, replace(cloud, `{"specversion"`, `{"x":1,"specversion"`), 400, "there is no field x"},
		{"structured, type", "POST", structured, replace(cloud, "ImagePushed", "ImageDeleted"), 400, "the CloudEvent is"},
		{"structured, id", "POST", structured, replace(cloud, `"1.0","id":"1"`, `"1.0","id":"2"`), 400, "the CloudEvent is"},
		{"structured, time", "POST", structured, replace(cloud, `:01Z","datac`, `:02Z","datac`), 400, "the time of the CloudEvent"},
		{"structured, data", "POST", structured, replace(cloud, `"length":5`, `"length":6`), 400, "size 5 is not length 6"},

		{"binary", "POST", binary("Ce-Id", "%31"), good, 200, ""},
		{"binary, version", "POST", binary("Ce-Specversion", "0.3"), good, 400, "the CloudEvent is"},
		{"binary, subject", "POST", binary("Ce-Subject", "a:v2"), good, 400, "the CloudEvent is"},
		{"binary, time", "POST", binary("Ce-Time", "now"), good, 400, `ce-time is "now"`},
		{"binary, percent", "POST", binary("Ce-Id", "1%"), good, 400, "ce-id is not percent-encoded"},
		{"binary, unknown", "POST", binary("Ce-More", "1"), good, 400, "there is no attribute Ce-More"},
	}, func(*webhooktest.Recorder) {})
}

func TestComplainsOfSignatures(t *testing.T) {
	const other = "whsec_OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk="
	headers := func(secrets ...string) map[string]string {
		probe := webhooktest.NewHandler()
		var ev webhook.Event
		if err := json.Unmarshal([]byte(good), &ev); err != nil {
			t.Fatal(err)
		}
		sink := &webhook.HTTP{URL: "http://hook.example.com/", Transport: probe.Transport(), Secrets: secrets}
		if err := sink.Send(t.Context(), ev); err != nil {
			t.Fatal(err)
		}
		h := map[string]string{}
		for name := range probe.Deliveries()[0].Header {
			h[name] = probe.Deliveries()[0].Header.Get(name)
		}
		return h
	}
	// Rightly signed, but under the id of another event.
	foreign := map[string]string{"Webhook-Id": "9", "Webhook-Timestamp": strconv.FormatInt(time.Now().Unix(), 10)}
	mac := hmac.New(sha256.New, []byte("01234567890123456789012345678901"))
	mac.Write([]byte("9." + foreign["Webhook-Timestamp"] + "." + good))
	foreign["Webhook-Signature"] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	stale := headers(secret)
	stale["Webhook-Timestamp"] = "1600000000"
	check(t, []sent{
		{"right", "POST", headers(secret), good, 200, ""},
		{"one of two", "POST", headers(other, secret), good, 200, ""},
		{"missing", "POST", nil, good, 401, "webhook-id or webhook-timestamp is missing"},
		{"wrong", "POST", headers(other), good, 401, "the signature does not match"},
		{"stale", "POST", stale, good, 401, "too far from now"},
		{"tampered", "POST", headers(secret), replace(good, "v1", "v2"), 401, "the signature does not match"},
		{"foreign id", "POST", foreign, good, 400, `webhook-id is "9"`},
		{"another event", "POST", headers(secret), replace(good, `"id":"1"`, `"id":"2"`), 401, "the signature does not match"},
	}, func(r *webhooktest.Recorder) { r.RequireSignature(secret) })
}

func TestComplainsOfAnIDThatIsUsedTwice(t *testing.T) {
	hook, err := webhooktest.Start() // without a testing.TB the complaint is kept
	if err != nil {
		t.Fatal(err)
	}
	defer hook.Close()
	sink := &webhook.HTTP{URL: hook.URL()}
	first, second := push("1"), push("1")
	second.Target.Tag = "v2"
	for _, ev := range []webhook.Event{first, first} {
		if err := sink.Send(t.Context(), ev); err != nil {
			t.Error(err)
		}
	}
	err = sink.Send(t.Context(), second)
	if got := strings.Join(hook.Complaints(), "\n"); status(err) != 400 || !strings.Contains(got, "two events have the id 1") {
		t.Errorf("%v; %s", err, got)
	}
	if d := hook.Deliveries(); len(d) != 3 || d[2].Taken || time.Since(d[2].Time) > time.Minute {
		t.Errorf("%+v", d)
	}
}
