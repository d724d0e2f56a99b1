package registry

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

// TestLinkGivesEachConnectionItsRate: 4 MiB at 1 MiB/s take 4 s, whoever else sends.
func TestLinkGivesEachConnectionItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		done := make(chan time.Duration)
		for range 2 {
			here, there := net.Pipe()
			go io.Copy(io.Discard, there)
			go func() {
				defer here.Close()
				c := &pacedConn{Conn: here, rate: 1 << 20}
				if n, err := c.Write(make([]byte, 4<<20)); n != 4<<20 || err != nil {
					t.Errorf("%d bytes, %v", n, err)
				}
				done <- time.Since(begun)
			}()
		}
		for range 2 {
			if took := <-done; took < 4*time.Second-burst || took > 4*time.Second {
				t.Errorf("4 MiB took %v, want 4 s", took)
			}
		}
	})
}

// TestLinkIsFarAway: each request takes a round trip, and the first of a connection two.
func TestLinkIsFarAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		link := Link{Delay: 40 * time.Millisecond}
		h := link.delay(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		ctx := withTrips(t.Context(), nil)
		for i, want := range []time.Duration{80 * time.Millisecond, 40 * time.Millisecond, 40 * time.Millisecond} {
			begun := time.Now()
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", "/v2/", nil))
			if took := time.Since(begun); took != want {
				t.Errorf("request %d took %v, want %v", i+1, took, want)
			}
		}
	})
}

// TestServerBehindALink: the wrappers are in the way of a real request.
func TestServerBehindALink(t *testing.T) {
	c := &Catalog{}
	img := c.Layered("b/x", 1, 100)
	s, err := Start(c, Link{Delay: time.Nanosecond, Rate: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	conn, err := net.Dial("tcp", s.Host)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	resp, err := http.Get("http://" + s.Host + img.Layers[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || len(body) != 100 {
		t.Errorf("%d bytes, %v", len(body), err)
	}
	if _, paced := (Link{Rate: 1}).listener(nil).(pacedListener); !paced {
		t.Error("a rate makes no paced listener")
	}
}
