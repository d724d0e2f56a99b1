package azuretest

import (
	"bytes"
	"encoding/base64"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Endpoint is one kind of thing that can be asked.
type Endpoint string

// The endpoints of an Azure.
const (
	IMDS       Endpoint = "imds"       // managed identities of a virtual machine
	AppService Endpoint = "appservice" // managed identities of an App Service
	Entra      Endpoint = "entra"      // tokens of service principals, and discovery
	Exchange   Endpoint = "exchange"   // POST /oauth2/exchange of a registry
	Token      Endpoint = "token"      // /oauth2/token of a registry
	V2         Endpoint = "v2"         // /v2/ of a registry
	Data       Endpoint = "data"       // the data endpoint of a registry
	KeyVault   Endpoint = "keyvault"   // a vault
	Other      Endpoint = "other"      // a host of the test, see [Azure.Handle]
)

// Call is one request that was answered.
type Call struct {
	Endpoint Endpoint
	Method   string
	Host     string
	URL      *url.URL
	Header   http.Header
	Form     url.Values // of the body, if it was a form
	Status   int        // 0: no answer, or not yet

	body string // that was no form
}

// Text is all that was sent, Basic credentials and the query decoded.
func (c Call) Text() string {
	var text strings.Builder
	text.WriteString(c.Method + " " + c.Host + " " + c.URL.String() + "\n")
	if query, err := url.QueryUnescape(c.URL.RawQuery); err == nil {
		text.WriteString(query + "\n")
	}
	for _, k := range slices.Sorted(maps.Keys(c.Header)) {
		for _, v := range c.Header[k] {
			text.WriteString(k + ": " + v + "\n")
			if encoded, ok := strings.CutPrefix(v, "Basic "); ok {
				decoded, _ := base64.StdEncoding.DecodeString(encoded)
				text.Write(decoded)
			}
		}
	}
	for _, k := range slices.Sorted(maps.Keys(c.Form)) {
		text.WriteString(k + "=" + strings.Join(c.Form[k], ",") + "\n")
	}
	text.WriteString(c.body)
	return text.String()
}

// Calls returns what was asked, in order, since the last Reset.
func (a *Azure) Calls() []Call {
	a.mu.Lock()
	defer a.mu.Unlock()
	calls := make([]Call, len(a.calls))
	for i, c := range a.calls {
		calls[i] = *c
	}
	return calls
}

// Count counts the calls of an endpoint since the last Reset.
func (a *Azure) Count(e Endpoint) (n int) {
	for _, c := range a.Calls() {
		if c.Endpoint == e {
			n++
		}
	}
	return n
}

// Reset forgets the calls.
func (a *Azure) Reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = nil
}

// Secret is a text that must not be seen where it does not belong.
type Secret struct {
	// What says what it is: "entra token", "refresh token", "access token",
	// "link", "identity header", "client secret", "password" or "vault secret".
	What string
	Text string

	belongs func(Call) bool
}

// Secrets are all secrets in play, for tests that look for them in logs, errors
// and answers. Those that were replaced, revoked or that expired are in it too.
func (a *Azure) Secrets() []Secret {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.secrets)
}

// secret notes a secret and where it may be shown.
func (a *Azure) secret(what, text string, belongs func(Call) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.secrets = append(a.secrets, Secret{what, text, belongs})
}

// at is one kind of endpoint; host "": any host.
func at(host string, endpoints ...Endpoint) func(Call) bool {
	return func(c Call) bool {
		return slices.Contains(endpoints, c.Endpoint) && (host == "" || host == c.Host)
	}
}

// inspect looks for secrets that were sent to somebody else than whom they are
// for.
func (a *Azure) inspect(c Call) {
	text := c.Text()
	for _, s := range a.Secrets() {
		if s.Text != "" && !s.belongs(c) && strings.Contains(text, s.Text) {
			a.complain("a %s was sent to %s %s (%s)", s.What, c.Host, c.URL.Path, c.Endpoint)
		}
	}
}

// Fault is what goes wrong at an endpoint. One of Status, Hang and Do is set.
type Fault struct {
	// Times is how often it happens; 0: until Heal.
	Times int
	// Status answers with that status and an error as Azure writes it.
	Status int
	// RetryAfter is the header of that name, with Status.
	RetryAfter string
	// Hang answers nothing until the client leaves.
	Hang bool
	// Do answers.
	Do http.HandlerFunc
}

type fault struct {
	Fault
	endpoint Endpoint
	done     int
}

// Fail makes an endpoint go wrong from now on. The fault that came first happens
// first. Faults of the content of a registry are at Registry.Content.
func (a *Azure) Fail(e Endpoint, f Fault) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.faults = append(a.faults, &fault{Fault: f, endpoint: e})
}

// Heal ends all faults.
func (a *Azure) Heal() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.faults = nil
}

// fault finds what goes wrong now.
func (a *Azure) fault(e Endpoint) (Fault, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range a.faults {
		if f.endpoint == e && (f.Times == 0 || f.done < f.Times) {
			f.done++
			return f.Fault, true
		}
	}
	return Fault{}, false
}

// ServeHTTP answers for all hosts, by the Host of the request.
func (a *Azure) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h, ok := a.lookup(r.Host)
	if !ok {
		http.Error(w, a.refuse(r.Host).Error(), http.StatusBadGateway)
		return
	}
	body := readBody(w, r)
	name, _, _ := strings.Cut(r.Host, ":")
	c := Call{Endpoint: h.endpoint(r), Method: r.Method, Host: name, URL: r.URL, Header: r.Header.Clone(), Form: r.PostForm, body: body}
	kept := c
	a.mu.Lock()
	a.calls = append(a.calls, &kept)
	a.mu.Unlock()
	a.inspect(c)
	watched := &watched{ResponseWriter: w}
	watched.Header().Set("Date", a.now().UTC().Format(http.TimeFormat))
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		kept.Status = watched.status
	}()
	if f, ok := a.fault(c.Endpoint); ok {
		f.serve(watched, r)
		return
	}
	h.serve(watched, r, c.Endpoint)
}

const (
	formType = "application/x-www-form-urlencoded"
	maxBody  = 1 << 20
)

// readBody reads what was sent: a form into r.PostForm, anything else is
// returned, and can be read again.
func readBody(w http.ResponseWriter, r *http.Request) string {
	if r.Body == nil {
		return ""
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if strings.HasPrefix(r.Header.Get("Content-Type"), formType) {
		_ = r.ParseForm()
		return ""
	}
	data, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(data))
	return string(data)
}

// serve answers with what is wrong.
func (f Fault) serve(w http.ResponseWriter, r *http.Request) {
	switch {
	case f.Do != nil:
		f.Do(w, r)
	case f.Hang:
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	default:
		if f.RetryAfter != "" {
			w.Header().Set("Retry-After", f.RetryAfter)
		}
		fail(w, f.Status, "UNKNOWN", "a fault of azuretest")
	}
}

// watched remembers the status.
type watched struct {
	http.ResponseWriter
	status int
}

func (w *watched) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *watched) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

func (w *watched) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Lifetimes say how long tokens live. A zero field: the default.
type Lifetimes struct {
	Entra   time.Duration // 24 hours
	Refresh time.Duration // 3 hours
	Access  time.Duration // 75 minutes
}

// SetLifetimes holds for tokens that are issued from now on.
func (a *Azure) SetLifetimes(l Lifetimes) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lifetimes = l
}
