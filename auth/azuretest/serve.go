package azuretest

import (
	"bytes"
	"io"
	"net/http"
	"strings"
)

// ServeHTTP serves all hosts, by the Host of the request.
func (a *Azure) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h, ok := a.lookup(r.Host)
	if !ok {
		http.Error(w, a.refuse(r.Host).Error(), http.StatusBadGateway)
		return
	}
	body := readBody(w, r)
	host, _, _ := strings.Cut(r.Host, ":")
	c := Call{Endpoint: h.endpoint(r), Method: r.Method, Host: host, URL: r.URL, Header: r.Header.Clone(), Form: r.PostForm, body: body}
	var f fault
	var edit func(func(*Call))
	visit := a.net.secure.Enter(func() {
		f, _ = a.faults.Next(func(f fault) bool { return f.endpoint == c.Endpoint })
		edit = a.calls.Add(c)
	})
	defer visit.Leave()
	a.inspect(c)
	watched := &watched{ResponseWriter: w, note: func(status int) { edit(func(c *Call) { c.Status = status }) }}
	watched.Header().Set("Date", a.now().UTC().Format(http.TimeFormat))
	if f.Hang {
		visit.Hang(r)
	}
	switch {
	case f.Do != nil:
		f.Do(watched, r)
	case f.Status != 0:
		if f.RetryAfter != "" {
			watched.Header().Set("Retry-After", f.RetryAfter)
		}
		fail(watched, f.Status, "UNKNOWN", "a fault of azuretest")
	default:
		h.serve(watched, r, c.Endpoint)
	}
}

const (
	formType = "application/x-www-form-urlencoded"
	maxBody  = 1 << 20
)

// readBody reads a form into r.PostForm. It returns any other body, which can then be read
// again.
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

// watched is a ResponseWriter that notes the status before the client can know it.
type watched struct {
	http.ResponseWriter
	note  func(status int)
	noted bool
}

func (w *watched) WriteHeader(status int) {
	w.see(status)
	w.ResponseWriter.WriteHeader(status)
}

func (w *watched) Write(b []byte) (int, error) {
	w.see(http.StatusOK)
	return w.ResponseWriter.Write(b)
}

// see notes the first status, which is the one that is sent.
func (w *watched) see(status int) {
	if !w.noted {
		w.noted = true
		w.note(status)
	}
}

func (w *watched) Unwrap() http.ResponseWriter { return w.ResponseWriter }
