package fakeserver_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/internal/fakeserver"
)

// hanging is a fake all of whose requests hang.
type hanging struct{ *fakeserver.Server }

func newHanging() *hanging {
	h := &hanging{}
	h.Server = fakeserver.New("hanging", h, nil)
	return h
}

// ServeHTTP hangs, and is then done.
func (h *hanging) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	visit := h.Enter(func() {})
	defer visit.Leave()
	visit.Hang(r)
	_, _ = io.WriteString(w, "released")
}

// get returns what a transport gets.
func get(ctx context.Context, t http.RoundTripper, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func TestWhatEndsAHang(t *testing.T) {
	for name, end := range map[string]func(h *hanging, cancel func()){
		"Release": func(h *hanging, _ func()) { h.Release() },
		"Stop":    func(h *hanging, _ func()) { h.Stop() },
		"Close":   func(h *hanging, _ func()) { h.Close() },
		"leaving": func(_ *hanging, cancel func()) { cancel() },
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHanging()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			go func() {
				_, err := get(ctx, h.Transport(), "http://any/")
				done <- err
			}()
			synctest.Wait()
			if h.Open() != 1 {
				t.Errorf("%s: %d requests are open", name, h.Open())
			}
			end(h, cancel)
			if err := <-done; (err == nil) != (name == "Release") {
				t.Errorf("%s: %v", name, err)
			}
			h.Wait()
			if h.Open() != 0 {
				t.Errorf("%s: %d requests are open at the end", name, h.Open())
			}
		})
	}
}

func TestStopRestartClose(t *testing.T) {
	s := fakeserver.New("f", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") }), nil)
	inMemory := s.Transport()
	if err := s.Restart(); err != nil || s.Address() != "" {
		t.Errorf("it never listened: %v, %q", err, s.Address())
	}
	for range 2 { // the second is nothing new
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
	}
	wire := &http.Transport{DisableKeepAlives: true}
	url := "http://" + s.Address() + "/"
	for _, tr := range []http.RoundTripper{wire, inMemory} {
		if text, err := get(t.Context(), tr, url); err != nil || text != "x" {
			t.Errorf("%q, %v", text, err)
		}
	}
	s.Stop()
	for _, tr := range []http.RoundTripper{wire, inMemory} {
		if _, err := get(t.Context(), tr, url); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("it is stopped: %v", err)
		}
	}
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	for _, tr := range []http.RoundTripper{wire, inMemory} {
		if _, err := get(t.Context(), tr, url); err != nil {
			t.Errorf("after a restart at %s: %v", url, err)
		}
	}
	s.Close()
	if err := s.Restart(); err == nil || !strings.HasPrefix(err.Error(), "f: ") {
		t.Errorf("after Close: %v", err)
	}
	defer func() {
		if p := recover(); p != http.ErrAbortHandler {
			t.Errorf("Enter after Close: %v", p)
		}
	}()
	s.Enter(func() { t.Error("it arrived after Close") })
}

func TestDirect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := fakeserver.Direct(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/slow":
				time.Sleep(time.Hour)
			case "/cut":
				_, _ = io.WriteString(w, "half")
				panic(http.ErrAbortHandler)
			case "/broken":
				panic(http.ErrAbortHandler)
			}
			body, err := io.ReadAll(r.Body)
			_, _ = fmt.Fprintf(w, "%s %q %v", r.Host, body, err)
		}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		for path, want := range map[string]struct {
			text string
			err  error
		}{"/": {`h "" <nil>`, nil}, "/cut": {"half", io.ErrUnexpectedEOF}, "/broken": {"", io.ErrUnexpectedEOF}} {
			if text, err := get(ctx, tr, "https://h"+path); text != want.text || !errors.Is(err, want.err) {
				t.Errorf("%s: %q, %v", path, text, err)
			}
		}
		if _, err := get(ctx, tr, "https://h/slow"); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if _, err := get(ctx, tr, "https://h/"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a context that has ended: %v", err)
		}
		time.Sleep(time.Hour) // the slow one ends in this bubble
	})
}

func TestFaults(t *testing.T) {
	var f fakeserver.Faults[string]
	f.Fail("once", 1)
	f.Fail("other", 1)
	f.Fail("always", 0)
	var got []string
	for range 4 {
		what, ok := f.Next(func(s string) bool { return s != "other" })
		got = append(got, fmt.Sprint(what, ok))
	}
	f.Heal()
	what, ok := f.Next(func(string) bool { return true })
	got = append(got, fmt.Sprint(what, ok))
	if want := []string{"oncetrue", "alwaystrue", "alwaystrue", "alwaystrue", "false"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
}

func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l fakeserver.Log[int]
		sum := func(all []int) (n int) {
			for _, v := range all {
				n += v
			}
			return n
		}
		edit := l.Add(1)
		l.Add(2)
		go func() {
			time.Sleep(time.Second)
			edit(func(v *int) { *v = 10 })
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if got, err := l.Wait(ctx, 12, sum); got != 12 || err != nil {
			t.Errorf("%d, %v", got, err)
		}
		if got, err := l.Wait(ctx, 13, sum); got != 12 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%d, %v", got, err)
		}
		if n := l.Count(func(v int) bool { return v > 5 }); n != 1 || !reflect.DeepEqual(l.All(), []int{10, 2}) {
			t.Errorf("%d, %v", n, l.All())
		}
		l.Reset()
		edit(func(v *int) { *v = 100 })
		l.Add(3)
		if !reflect.DeepEqual(l.All(), []int{3}) {
			t.Errorf("after Reset %v", l.All())
		}
	})
}

// failing is a test that keeps its errors.
type failing struct {
	testing.TB
	errors []string
}

// Error keeps a text.
func (f *failing) Error(args ...any) { f.errors = append(f.errors, fmt.Sprint(args...)) }

func TestComplaints(t *testing.T) {
	counted := &failing{TB: t}
	c := fakeserver.Complaints{Name: "f", T: counted}
	c.Complain("%d is wrong", 1)
	if want := []string{"f: 1 is wrong"}; !reflect.DeepEqual(c.All(), want) || !reflect.DeepEqual(counted.errors, want) {
		t.Errorf("%q, %q", c.All(), counted.errors)
	}
	kept := fakeserver.Complaints{Name: "f"}
	kept.Complain("wrong")
	if len(kept.All()) != 1 {
		t.Errorf("%q", kept.All())
	}
}

func TestCA(t *testing.T) {
	ca, err := fakeserver.NewCA("test CA")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Certificate("127.0.0.1", "::1", "a.example")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := ca.Certificate("127.0.0.1", "::1", "a.example"); err != nil || again != cert {
		t.Errorf("it was issued twice, %v", err)
	}
	s := fakeserver.New("f", http.NotFoundHandler(), &tls.Config{Certificates: []tls.Certificate{*cert}})
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for name, ok := range map[string]bool{"": true, "a.example": true, "b.example": false} {
		conn, err := tls.Dial("tcp", s.Address(), &tls.Config{RootCAs: ca.Roots(), ServerName: name})
		if (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
		if err == nil {
			_ = conn.Close()
		}
	}
	if !strings.HasPrefix(string(ca.PEM()), "-----BEGIN CERTIFICATE-----") {
		t.Errorf("%s", ca.PEM())
	}
}
